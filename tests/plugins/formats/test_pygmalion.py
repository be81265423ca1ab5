from __future__ import annotations

from typing import Any

import pytest

from core import RowError
from core.data import item_of, tokenize_example
from plugins.formats.pygmalion import render

TALK = [
    {"role": "system", "value": "A pirate. \n<START>"},
    {"role": "human", "value": "Who are you?"},
    {"role": "bot", "value": " A pirate, yes. "},
    {"role": "human", "value": "Where to?"},
    {"role": "bot", "value": "To the sea."},
]


def test_the_replies_are_trained(tokenizer: Any) -> None:
    (example,) = render({"conversations": TALK}, {}, tokenizer)
    assert "".join(f"⟦{part.text}⟧" if part.trained else part.text for part in example.segments) == (
        "<|system|>Persona: A pirate.<|user|> Who are you?<|model|>⟦ A pirate, yes.⟧⟦<|im_end|>⟧"
        "<|user|> Where to?<|model|>⟦ To the sea.⟧⟦<|im_end|>⟧"
    )
    tokens = tokenize_example(example, tokenizer)
    assert tokens.straddling == 0
    trained = tokenizer.decode([label for label in tokens.labels if label != -100])
    assert trained == " A pirate, yes.<|im_end|> To the sea.<|im_end|>"
    item = item_of(example, {}, "a.jsonl:1", 0, tokenizer)
    assert item.prompt.endswith("<|user|> Where to?<|model|>")
    assert [text.strip() for text in item.references] == ["To the sea."]


def test_all_of_it(tokenizer: Any) -> None:
    (example,) = render({"conversations": TALK}, {"train_on_inputs": True}, tokenizer)
    assert all(part.trained for part in example.segments)


@pytest.mark.parametrize(
    ("given", "said"),
    [
        ("Hi", "field 'conversations' is the text 'Hi', not a list of messages"),
        ([], "field 'conversations' is an empty list, not a list of messages"),
        (["Hi"], "message 1 is the text 'Hi', not an object with a role and a value"),
        ([{"role": "human"}], "message 1 has no 'value'; it has: role"),
        ([{"role": "human", "value": None}], "the value of message 1 is null, not text"),
        ([{"role": "gpt", "value": "a"}], "message 1 has the role 'gpt', which is none of system, human, bot"),
        ([{"role": "bot", "value": " "}], "message 1 (bot) is empty"),
    ],
)
def test_what_is_no_conversation(tokenizer: Any, given: Any, said: str) -> None:
    with pytest.raises(RowError) as error:
        render({"conversations": given}, {}, tokenizer)
    assert error.value.message == said
