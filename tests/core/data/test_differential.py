"""Ids and labels of a prepared data set against a plain implementation here, which shares no code with it."""

from __future__ import annotations

import json
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import pytest
from hypothesis import HealthCheck, assume, given, settings
from hypothesis import strategies as st

from core.data import prepare, tokenize_example
from core.data.chat_templates import NAMED
from core.models.gguf import cache_folder
from tests.core.data.making import FORMATS, SHARED, SHAREGPT, dataset, plan_of, write_lines

Ids = tuple[list[int], list[int]]
WITH_INPUT = (
    "Below is an instruction that describes a task, paired with an input that provides further context. "
    "Write a response that appropriately completes the request.\n\n"
    "### Instruction:\n{}\n\n### Input:\n{}\n\n### Response:\n"
)
WITHOUT_INPUT = (
    "Below is an instruction that describes a task. Write a response that appropriately completes the request.\n\n"
    "### Instruction:\n{}\n\n### Response:\n"
)
# answers that begin and end in odd ways, other scripts, several tokens to a character, marks of the format itself
ODD = [
    "yes",
    " yes",
    "\nyes",
    "yes ",
    "42",
    "- a\n- b\n",
    "你好",
    "naïve 👩‍👩‍👧",
    '{"a": [1]}',
    "### Response:\nx",
    "a\tb",
    "\u00a0x",
]


def plain(text: str, trained: Sequence[tuple[int, int]], tokenizer: Any) -> Ids:
    """The whole text as ids; labels where a token starts inside one of the `trained` spans of characters."""
    encoded = tokenizer(text, add_special_tokens=False, return_offsets_mapping=True)
    ids = list(encoded["input_ids"])
    labels = [
        token if any(start <= place < stop for start, stop in trained) else -100
        for token, (place, _) in zip(ids, encoded["offset_mapping"], strict=True)
    ]
    return ids, labels


def plain_alpaca(row: Mapping[str, str], tokenizer: Any) -> Ids:
    prompt = (
        WITH_INPUT.format(row["instruction"], row["input"])
        if row.get("input")
        else WITHOUT_INPUT.format(row["instruction"])
    )
    text = prompt + row["output"] + tokenizer.eos_token
    return plain(text, [(len(prompt), len(text))], tokenizer)


def plain_chat(messages: Sequence[Mapping[str, str]], tokenizer: Any) -> Ids:
    """One rendering for each prefix that asks for an answer, and one for each that has it."""

    def text(count: int, **options: Any) -> str:
        return str(tokenizer.apply_chat_template(list(messages[:count]), tokenize=False, **options))

    spans = [
        (len(text(index, add_generation_prompt=True)), len(text(index + 1).rstrip("\n")))
        for index, message in enumerate(messages)
        if message["role"] == "assistant"
    ]
    return plain(text(len(messages)), spans, tokenizer)


def prepared(tmp_path: Path, path: Path, tokenizer: Any, type: str = "alpaca", **options: Any) -> dict[str, Ids]:
    """The ids and labels of all rows of `path` by their places, as a run trains on them."""
    plan = plan_of(tmp_path, dataset(path, type, **options), sequence_len=10**6, shuffle_merged_datasets=False)
    train = prepare(plan, tokenizer).train
    return {row["place"].rpartition("/")[2]: (row["input_ids"], row["labels"]) for row in train}


@pytest.fixture(params=["tiny", "smollm2"])
def any_tokenizer(request: pytest.FixtureRequest, tokenizer: Any) -> Any:
    """The tiny tokenizer, and that of a real model where its converted folder is in the cache."""
    if request.param == "tiny":
        return tokenizer
    from transformers import AutoTokenizer

    for folder in sorted((cache_folder() / "gguf").glob("*-v*")):
        if (folder / "tokenizer.json").is_file():
            return AutoTokenizer.from_pretrained(str(folder))
    return pytest.skip("no model has been converted into the cache yet")


def shared(*names: str) -> Path:
    path = SHARED.joinpath(*names)
    if not path.is_file():
        pytest.skip("the real data sets are not beside this checkout")
    return path


def test_odd_rows(tmp_path: Path, any_tokenizer: Any) -> None:
    rows = [
        {"instruction": f"Do {n} {text}", "input": given, "output": text}
        for n, text in enumerate(ODD)
        for given in ("", " one", "two\n")
    ]
    made = prepared(tmp_path, write_lines(tmp_path / "rows.jsonl", rows), any_tokenizer)
    assert list(made.values()) == [plain_alpaca(row, any_tokenizer) for row in rows]


def test_odd_chats(tmp_path: Path, any_tokenizer: Any) -> None:
    chats = [
        [{"role": "user", "content": f"{n} {text}"}, {"role": "assistant", "content": text}] * times
        for n, text in enumerate(ODD)
        for times in (1, 2)
    ]
    path = write_lines(tmp_path / "chats.jsonl", [{"messages": chat} for chat in chats])
    made = prepared(tmp_path, path, any_tokenizer, "chat_template")
    assert list(made.values()) == [plain_chat(chat, any_tokenizer) for chat in chats]


def test_real_instructions(tmp_path: Path, any_tokenizer: Any) -> None:
    path = shared("rasbt_instruct", "instruction-data.json")
    rows = json.loads(path.read_text(encoding="utf-8"))
    assert len(rows) == 1100
    made = prepared(tmp_path, path, any_tokenizer)
    assert list(made.values()) == [plain_alpaca(row, any_tokenizer) for row in rows]


def test_real_maths(tmp_path: Path, any_tokenizer: Any) -> None:
    path = shared("gsm8k", "test.jsonl")
    rows = [json.loads(line) for line in path.read_text(encoding="utf-8").splitlines()]
    fields = {"field_instruction": "question", "field_output": "answer"}
    made = prepared(tmp_path, path, any_tokenizer, **fields)
    assert len(made) == 1319
    renamed = [{"instruction": row["question"], "output": row["answer"]} for row in rows]
    assert list(made.values()) == [plain_alpaca(row, any_tokenizer) for row in renamed]


def test_real_chats(tmp_path: Path, any_tokenizer: Any) -> None:
    path = shared("chat_sharegpt_fastchat", "dummy_conversation.json")
    rows = json.loads(path.read_text(encoding="utf-8"))
    names = {"human": "user", "gpt": "assistant"}
    made = prepared(tmp_path, path, any_tokenizer, "chat_template", **SHAREGPT)
    assert len(made) == 500
    for row, found in zip(rows, made.values(), strict=True):
        messages = [{"role": names[turn["from"]], "content": turn["value"]} for turn in row["conversations"]]
        assert found == plain_chat(messages, any_tokenizer)


# ---------------------------------------------------------------- what is trained is the answers, nothing else

TEXT = st.text(st.characters(exclude_categories=["Cs"]), min_size=1, max_size=30).filter(
    lambda text: text.strip() and "TunesmithMark" not in text
)
ENDS_OF_TURN = ("<|im_end|>", "<|eot_id|>", "<end_of_turn>", "<|end|>")
QUIETLY = settings(max_examples=100, deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture])


def trained_text(tokens: Any, tokenizer: Any) -> str:
    return str(tokenizer.decode([int(label) for label in tokens.labels if label != -100]))


def made_of(name: str, row: Mapping[str, Any], tokenizer: Any, **options: Any) -> Any:
    (example,) = FORMATS[name].render(row, options, tokenizer)
    return tokenize_example(example, tokenizer)


@QUIETLY
@given(
    instruction=TEXT,
    context=st.one_of(st.just(""), TEXT),
    output=TEXT,
    style=st.sampled_from(["instruct", "chat", "chatml", "phi"]),
)
def test_any_instruction(tokenizer: Any, instruction: str, context: str, output: str, style: str) -> None:
    row = {"instruction": instruction, "input": context, "output": output}
    tokens = made_of("alpaca", row, tokenizer, prompt_style=style)
    assume(not tokens.straddling)
    assert trained_text(tokens, tokenizer) == output + "<|im_end|>"


@QUIETLY
@given(parts=st.lists(st.tuples(st.booleans(), TEXT), min_size=1, max_size=6))
def test_any_segments(tokenizer: Any, parts: list[tuple[bool, str]]) -> None:
    row = {"segments": [{"label": trained, "text": text} for trained, text in parts]}
    tokens = made_of("input_output", row, tokenizer)
    assume(not tokens.straddling)
    assert trained_text(tokens, tokenizer) == "".join(text for trained, text in parts if trained)


def without_end_of_turn(text: str) -> str:
    """`text` without the one end of turn it begins with, if it begins with one."""
    text = text.lstrip()
    return next((text.removeprefix(mark) for mark in ENDS_OF_TURN if text.startswith(mark)), text)


@QUIETLY
@given(
    turns=st.lists(st.tuples(TEXT, TEXT, st.sampled_from([None, True, False])), min_size=1, max_size=4),
    name=st.sampled_from(sorted(NAMED)),
)
def test_any_chat_with_flags(bos_tokenizer: Any, turns: list[tuple[str, str, bool | None]], name: str) -> None:
    messages: list[dict[str, Any]] = []
    for asked, answer, flag in turns:
        messages += [{"role": "user", "content": asked}, {"role": "assistant", "content": answer, "train": flag}]
    tokens = made_of(
        "chat_template", {"messages": messages}, bos_tokenizer, chat_template=name, message_field_training="train"
    )
    assume(not tokens.straddling)
    left = trained_text(tokens, bos_tokenizer)
    for answer in (answer.strip() for _, answer, flag in turns if flag is not False):
        # between two answers stands nothing but the space and the end of turn that the template writes
        assert left.lstrip().startswith(answer)
        left = without_end_of_turn(left.lstrip().removeprefix(answer))
    assert left.strip() == ""


@QUIETLY
@given(answer=TEXT, data=st.data())
def test_any_ranges(tokenizer: Any, answer: str, data: st.DataObject) -> None:
    first = data.draw(st.integers(0, len(answer) - 1))
    last = data.draw(st.integers(first, len(answer) - 1))
    ranges = [{"begin_offset": first, "end_offset": last, "train": True}]
    row = {"messages": [{"role": "user", "content": "Hi"}, {"role": "assistant", "content": answer, "parts": ranges}]}
    tokens = made_of("chat_template", row, tokenizer, message_field_training_detail="parts")
    assume(not tokens.straddling)
    assert trained_text(tokens, tokenizer) == answer[first : last + 1] + "<|im_end|>"
