from __future__ import annotations

import os
import subprocess
import sys

import pytest

PROGRAM = """
import atexit, os
from core.launched import leave

class Thread:
    def __del__(self, abort=os.abort):
        abort()  # as a library's thread does that outlives the interpreter

thread = Thread()
atexit.register(print, "registered work is done")
print("said before")
leave(3)
"""


@pytest.mark.parametrize(("world_size", "code"), [("2", 3), ("1", -6)])
def test_one_of_several_processes_ends_without_taking_the_interpreter_down(world_size: str, code: int) -> None:
    # alone, a process ends as Python's programs do: that it aborts here shows that the test can fail
    done = subprocess.run(
        [sys.executable, "-c", PROGRAM],
        env={**os.environ, "WORLD_SIZE": world_size},
        capture_output=True,
        text=True,
        timeout=240,
        check=False,
    )
    assert done.returncode == code
    assert done.stdout.splitlines() == ["said before", "registered work is done"]
