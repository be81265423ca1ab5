from __future__ import annotations

from typing import Any

import pytest

from core import RowError, Segment
from plugins.formats.instruction import FORMS, dataset_formats

FORMATS = {made.name: made for made in dataset_formats()}
ALPACA = {"instruction": "Add {input}.", "input": "1", "output": "two"}
INTRO = (
    "Below is an instruction that describes a task, paired with an input that provides further context. "
    "Write a response that appropriately completes the request."
)


def text(name: str, row: dict[str, Any], tokenizer: Any, **options: Any) -> str:
    (example,) = FORMATS[name].render(row, options, tokenizer)
    return "".join(segment.text for segment in example.segments)


def test_there_is_a_format_for_each_entry() -> None:
    assert len(FORMS) == len(FORMATS) >= 20
    assert all(made.description.endswith(".") for made in FORMATS.values())


@pytest.mark.parametrize(
    ("name", "row", "expected"),
    [
        ("alpaca_chat", ALPACA, f"SYSTEM: {INTRO}\nUSER: Add {{input}}.\n1\nASSISTANT:two<|im_end|>"),
        ("alpaca_chat.load_no_prompt", ALPACA, "USER: Add {input}.\n1\nASSISTANT:two<|im_end|>"),
        (
            "alpaca_w_system.load_instruct",
            {**ALPACA, "system": "Be brief."},
            "Be brief.\n\n### Instruction:\nAdd {input}.\n\n### Input:\n1\n\n### Response:\ntwo<|im_end|>",
        ),
        (
            "alpaca_w_system.load_open_orca",
            {"system_prompt": "Be brief.", "question": "1 + 1?", "response": "two"},
            "### System:\nBe brief.\n### Human:\n1 + 1?\n### Assistant:\ntwo<|im_end|>",
        ),
        (
            "alpaca_w_system.load_open_orca",
            {"system_prompt": "", "question": "1 + 1?", "response": "two"},
            "### Human:\n1 + 1?\n### Assistant:\ntwo<|im_end|>",
        ),
        (
            "orcamini",
            {"system_prompt": "Be brief.", "question": "1 + 1?", "response": "two"},
            "### System:\nBe brief.\n\n### User:\n1 + 1?\n\n### Response:\ntwo<|im_end|>",
        ),
        (
            "context_qa",
            {"article": "A.", "question": "Q?", "answer": "a"},
            "SYSTEM: Use the following contextual information to concisely answer the question.\n\n"
            "USER: A.\n===\nQ?\nASSISTANT:a<|im_end|>",
        ),
        (
            "context_qa.load_v2",
            {"context": "A.", "question": "Q?", "answer": "a"},
            "Context: A.\nQuestion: Q?\nAnswer: a<|im_end|>",
        ),
        (
            "concisechoice",
            {"question": "Q?", "choices": ["x", "y"], "explanation": "x"},
            "Choose the answer that best answers the question. Be concise in your response.\n\n"
            'USER: Q?\n- "x"\n- "y"\nASSISTANT:x<|im_end|>',
        ),
        (
            "summarizetldr",
            {"article": "Long.", "summary": "Short."},
            "USER: Summarize the following article as a TL;DR.\nLong.\nASSISTANT:Short.<|im_end|>",
        ),
        (
            "jeopardy",
            {"category": "c", "question": "q", "answer": "a"},
            f"{INTRO}\n\n### Instruction:\nq\n\n### Input:\nc\n\n### Response:\nwhat is a<|im_end|>",
        ),
        (
            "creative_acr.load_answer",
            {"instruction": "Q?", "revision": "a"},
            "Answer the following question in a comprehensive, in-depth, and creative way. Additionally your response "
            "should be relevant, accurate, and free of any ambiguity.\nUSER: Q?\nASSISTANT:a<|im_end|>",
        ),
        ("metharme", {"prompt": "p\n", "generation": "g"}, "p\ng<|im_end|><|im_end|><|im_end|>"),
    ],
)
def test_texts(tokenizer: Any, name: str, row: dict[str, Any], expected: str) -> None:
    assert text(name, row, tokenizer) == expected


def test_a_style_of_alpaca_is_its_prompt_in_other_marks(tokenizer: Any) -> None:
    made = text("jeopardy", {"category": "c", "question": "q", "answer": "a"}, tokenizer, prompt_style="phi")
    assert made == f"<|system|>\n{INTRO}<|end|>\n<|user|>\nq<|end|>c<|assistant|>what is a<|im_end|>"


def test_only_the_answer_is_trained(tokenizer: Any) -> None:
    row = {"instruction": "i", "output": "o", "reflection": "r", "corrected": "c"}
    (example,) = FORMATS["reflection"].render(row, {}, tokenizer)
    prompt, answer, end = example.segments
    assert not prompt.trained
    assert prompt.text.endswith("### Response:\n")
    assert answer == Segment(
        "### Thought:\no\n\n### Agent Reflection:\nr\n\n### Final Response:\nc", trained=True, answer=True
    )
    assert end == Segment("<|im_end|>", trained=True)
    (whole,) = FORMATS["reflection"].render(row, {"train_on_inputs": True}, tokenizer)
    assert all(segment.trained for segment in whole.segments)


def test_choices_must_be_texts(tokenizer: Any) -> None:
    with pytest.raises(RowError, match="field 'choices' is a list, not a list of texts"):
        text("explainchoice", {"question": "Q?", "choices": [1, 2], "solution": "x"}, tokenizer)


def test_scores_and_critiques_are_written_as_yaml(tokenizer: Any) -> None:
    row = {"instruction": "Q {evaluation}?", "answer": "a", "revision": "b", "scores": {"refusal": 9, "creativity": 1}}
    row["critiques"] = {"refusal": {"improvements": "none", "explanation": "it: answers"}}
    written = "creativity: 1\nrefusal: 9\nrefusal:\n  explanation: 'it: answers'\n  improvements: none\n"
    made = text("creative_acr.load_revise", row, tokenizer)
    assert made.endswith(f"Question: Q {{evaluation}}?\nAnswer: a\nEvaluation:\n{written}\n\nASSISTANT:b<|im_end|>")
    assert text("creative_acr.load_critique", row, tokenizer).endswith(f"Answer: a\n\nASSISTANT:{written}<|im_end|>")
    with pytest.raises(RowError, match="field 'scores' is the number 3, not an object"):
        text("creative_acr.load_critique", {**row, "scores": 3}, tokenizer)
