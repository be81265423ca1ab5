from __future__ import annotations

import io
import sys

import pytest

from core.console import say


@pytest.mark.parametrize(("encoding", "printed"), [("ascii", b"0 % ? 9 %\n"), ("utf-8", "0 % → 9 %\n".encode())])
def test_a_terminal_that_lacks_a_character_ends_no_run(
    encoding: str, printed: bytes, monkeypatch: pytest.MonkeyPatch
) -> None:
    shown = io.BytesIO()
    monkeypatch.setattr(sys, "stdout", io.TextIOWrapper(shown, encoding=encoding, newline="\n"))
    say("0 % → 9 %")
    assert shown.getvalue() == printed
