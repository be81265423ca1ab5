"""Every built-in plugin keeps what third parties have to keep."""

from __future__ import annotations

from importlib import import_module
from pathlib import Path
from typing import Any

import pytest

from core.host import BUILTINS
from core.testing.conformance import check_plugin

MESSAGES = [{"role": "user", "content": "Is 2 even?"}, {"role": "assistant", "content": "yes"}]
ALPACA = {"instruction": "Answer with yes or no.", "input": "Is 2 even?", "output": "yes"}
ORCA = {"system_prompt": "Be brief.", "question": "Is 2 even?", "response": "yes"}
CONTEXT = {"article": "Two is even.", "context": "Two is even.", "question": "Is 2 even?", "answer": "yes"}
CHOICES = {"question": "Is 2 even?", "choices": ["yes", "no"], "solution": "yes"}
CREATIVE = {
    "instruction": "Is 2 even?",
    "answer": "no",
    "scores": {"refusal": 10},
    "critiques": {"refusal": {"explanation": "It answers."}},
    "revision": "yes",
}
ROWS: dict[str, dict[str, Any]] = {
    **dict.fromkeys(("alpaca_chat", "alpaca_chat.load_concise", "alpaca_chat.load_no_prompt"), ALPACA),
    **dict.fromkeys(("alpaca_instruct", "alpaca_instruct.load_no_prompt", "user_defined"), ALPACA),
    **{
        f"alpaca_w_system{suffix}": {**ALPACA, "system": "Be brief."} for suffix in ("", ".load_chat", ".load_instruct")
    },
    **dict.fromkeys(("alpaca_w_system.load_open_orca", "alpaca_w_system.load_open_orca_chatml", "orcamini"), ORCA),
    **dict.fromkeys(("context_qa", "context_qa.load_v2", "alpaca_chat.load_qa"), CONTEXT),
    **dict.fromkeys(("explainchoice", "concisechoice"), CHOICES),
    "context_qa.load_404": {"article": "Two is even.", "unanswerable_question": "Is 3 even?"},
    "alpaca_chat.load_camel_ai": {"message_1": "Is 2 even?", "message_2": "yes"},
    "summarizetldr": {"article": "Two is even. It is.", "summary": "Two is even."},
    "jeopardy": {"category": "numbers", "question": "The first even number", "answer": "two"},
    "oasst": {"INSTRUCTION": "Is 2 even?", "RESPONSE": "yes"},
    "gpteacher": {"instruction": "Is 2 even?", "input": "", "response": "yes"},
    "reflection": {**ALPACA, "reflection": "It is.", "corrected": "yes"},
    "metharme": {"prompt": "Is 2 even?\n", "generation": "yes"},
    "pretokenised": {"input_ids": [5, 6, 7], "labels": [-100, 6, 7], "attention_mask": [1, 1, 1]},
    "alpaca": ALPACA,
    "creative_acr.load_answer": CREATIVE,
    "creative_acr.load_critique": CREATIVE,
    "creative_acr.load_revise": CREATIVE,
    "pygmalion": {"conversations": [{"role": "human", "value": "Is 2 even?"}, {"role": "bot", "value": "yes"}]},
    "chat_template": {"messages": MESSAGES},
    "chat_template.default": {"messages": MESSAGES},
    "completion": {"text": "Two is even."},
    "input_output": {"segments": [{"label": False, "text": "Is 2 even?\n"}, {"label": True, "text": "yes"}]},
}
OPTIONS: dict[str, dict[str, Any]] = {
    "json_field": {"field": "chapter"},
    "format_compliance": {"regex": "yes|no"},
    "user_defined": {"format": "Q: {instruction}\n{input}\nA:\n"},
}
REFERENCES = dict.fromkeys(("json_field", "json_fields"), '{"chapter": "Diseases of the respiratory system"}')


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
