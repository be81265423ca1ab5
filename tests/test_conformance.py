"""Every built-in plugin keeps what third parties have to keep."""

from __future__ import annotations

from importlib import import_module
from pathlib import Path
from typing import Any

import pytest

from core.host import BUILTINS
from core.testing.conformance import check_plugin

MESSAGES = [{"role": "user", "content": "Is 2 even?"}, {"role": "assistant", "content": "yes"}]
ROWS: dict[str, dict[str, Any]] = {
    "alpaca": {"instruction": "Answer with yes or no.", "input": "Is 2 even?", "output": "yes"},
    "chat_template": {"messages": MESSAGES},
    "chat_template.default": {"messages": MESSAGES},
    "completion": {"text": "Two is even."},
    "input_output": {"segments": [{"label": False, "text": "Is 2 even?\n"}, {"label": True, "text": "yes"}]},
}
OPTIONS: dict[str, dict[str, Any]] = {"json_field": {"field": "chapter"}, "format_compliance": {"regex": "yes|no"}}
REFERENCES = {"json_field": '{"chapter": "Diseases of the respiratory system"}'}


@pytest.mark.parametrize("name", BUILTINS)
def test_builtin(name: str, tiny_model: Path, tmp_path: Path) -> None:
    checked = check_plugin(
        import_module(name),
        model=tiny_model,
        folder=tmp_path,
        rows=ROWS,
        options=OPTIONS,
        references=REFERENCES,
        plain_text=["completion"],
    )
    assert len(checked) > 1, f"{name} offers nothing that is checked"
