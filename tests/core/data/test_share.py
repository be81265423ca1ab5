"""Several ranks and one preparation, with real processes."""

from __future__ import annotations

import os
import signal
import socket
import subprocess
import sys
import time
from pathlib import Path

import pytest

pytestmark = pytest.mark.slow
ROOT = Path(__file__).resolve().parents[3]
# The time-out of collectives is below the time that the work takes, and both are sleep, so that a busy machine does not
# change which of them is longer; the silence that is borne is far above what a busy machine keeps a thread waiting.
SCRIPT = """
import os, sys, time
from datetime import timedelta
from pathlib import Path
import torch.distributed
from accelerate import PartialState
from core.errors import UserError
from core.data.share import on_main_first
from core.data.cache import take_entry

case, folder = sys.argv[1], Path(sys.argv[2])
rank = int(os.environ["RANK"])
state = PartialState(cpu=True)  # the ranks may start far apart
torch.distributed.barrier()
torch.distributed.distributed_c10d._set_pg_timeout(timedelta(seconds=5))

def build(place):
    (folder / f"built-{case}-{rank}").touch()
    if case == "dies":
        time.sleep(600)
    if case == "bug":
        raise ZeroDivisionError("oops")
    if case == "refused":
        raise UserError("no data at 'x'", help="look for it")
    if case == "waits":
        time.sleep(10)
    (place / "rows").write_text("all of them")
    return {"stats": {}}

def work():
    root = folder / ("cache" if case != "apart" else f"cache-{rank}")
    entry, _ = take_entry(root, "key", build)
    if case == "apart" and rank == 0:
        os.rename(root, folder / "elsewhere")  # another machine's disk
    return entry

try:
    for _ in range(2):
        entry = on_main_first(work, silence=30.0)
        if case == "apart":
            break
    print("entry", entry.folder.name, entry.meta["files"], flush=True)
except UserError as error:
    print("UserError", error.message, "/", error.help, flush=True)
except Exception as error:
    print(type(error).__name__, error, flush=True)
os._exit(0)
"""


def ranks(case: str, folder: Path) -> list[subprocess.Popen[str]]:
    with socket.socket() as free:
        free.bind(("127.0.0.1", 0))
        port = free.getsockname()[1]
    common = {**os.environ, "PYTHONPATH": str(ROOT), "WORLD_SIZE": "2", "MASTER_ADDR": "127.0.0.1"}
    return [
        subprocess.Popen(
            [sys.executable, "-c", SCRIPT, case, str(folder)],
            env={**common, "RANK": str(rank), "LOCAL_RANK": str(rank), "MASTER_PORT": str(port)},
            stdout=subprocess.PIPE,
            stderr=subprocess.PIPE,
            text=True,
        )
        for rank in range(2)
    ]


def said(case: str, folder: Path) -> list[str]:
    """The last line of each rank."""
    return [_last_line(process) for process in ranks(case, folder)]


def _last_line(process: subprocess.Popen[str]) -> str:
    out, err = process.communicate(timeout=300)
    assert out.strip(), err
    return out.strip().splitlines()[-1]


def built(case: str, folder: Path) -> int:
    return len(list(folder.glob(f"built-{case}-*")))


def test_others_wait_longer_than_any_collective_would(tmp_path: Path) -> None:
    entry = "entry key {'rows': 11}"
    assert said("waits", tmp_path) == [entry, entry]
    assert built("waits", tmp_path) == 1


def test_a_rank_that_cannot_see_the_files_prepares_them_itself(tmp_path: Path) -> None:
    lines = said("apart", tmp_path)
    assert [line.split()[:2] for line in lines] == [["entry", "key"]] * 2
    assert built("apart", tmp_path) == 2


def test_every_rank_hears_of_refused_data(tmp_path: Path) -> None:
    assert said("refused", tmp_path) == ["UserError no data at 'x' / look for it"] * 2


def test_every_rank_hears_of_a_bug(tmp_path: Path) -> None:
    assert said("bug", tmp_path) == [
        "ZeroDivisionError oops",
        "RuntimeError the main process could not prepare the data: oops",
    ]


def test_a_main_process_that_dies_is_noticed(tmp_path: Path) -> None:
    main, other = ranks("dies", tmp_path)
    deadline = time.monotonic() + 240
    while not built("dies", tmp_path) and time.monotonic() < deadline:
        time.sleep(0.1)
    main.send_signal(signal.SIGKILL)
    main.communicate()
    assert _last_line(other).startswith("UserError the main process stopped while the data was being prepared")
