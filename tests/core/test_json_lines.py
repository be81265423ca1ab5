from __future__ import annotations

import json
from pathlib import Path

import pytest

from core.json_lines import json_lines

VALUES = [{"text": "one\u2028two\u0085three\u2029\u001cfour\r\n"}, [1, None], "äöü"]


def test_a_line_ends_at_a_line_feed_alone(tmp_path: Path) -> None:
    path = tmp_path / "lines.jsonl"
    path.write_text("".join(json.dumps(value, ensure_ascii=False) + "\n" for value in VALUES), encoding="utf-8")
    assert json_lines(path) == VALUES


@pytest.mark.parametrize("content", [b'{"a": 1}\n{"a":\n', b'"\xff"\n'])
def test_what_is_no_json_lines_is_a_value_error(tmp_path: Path, content: bytes) -> None:
    (tmp_path / "lines.jsonl").write_bytes(content)
    with pytest.raises(ValueError, match=r"Expecting value|invalid start byte"):
        json_lines(tmp_path / "lines.jsonl")
