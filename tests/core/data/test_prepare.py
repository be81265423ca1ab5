from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import pytest

from core.data import encode_prompt, item_of, prepare
from core.errors import RowError, UserError
from core.types import Example, Segment
from tests.core.data.making import alpaca_rows, dataset, plan_of, trained_text, write_lines

CHATS = [
    {"messages": [{"role": "user", "content": f"Question {n}"}, {"role": "assistant", "content": f"Answer {n}"}]}
    for n in range(5)
]


def test_train_rows(tokenizer: Any, in_tmp_path: Path) -> None:
    path = write_lines(in_tmp_path / "data.jsonl", alpaca_rows(20))
    data = prepare(plan_of(in_tmp_path, dataset(path), shuffle_merged_datasets=False), tokenizer)
    assert data.train.column_names == ["input_ids", "labels", "place"]
    assert list(data.train["place"]) == [f"data.jsonl:{line}" for line in range(1, 21)]
    assert [trained_text(row, tokenizer) for row in data.train] == [f"number {n}<|im_end|>" for n in range(20)]
    assert data.val is None
    assert data.test == ()
    assert data.pad_token_id == tokenizer.pad_token_id
    batch = next(iter(data.batches(4)))
    assert batch["input_ids"].shape[0] == 4


def test_rows_are_shuffled_by_seed(tokenizer: Any, in_tmp_path: Path) -> None:
    path = write_lines(in_tmp_path / "data.jsonl", alpaca_rows(20))
    places = [
        list(prepare(plan_of(in_tmp_path, dataset(path), seed=seed), tokenizer).train["place"]) for seed in (1, 1, 2)
    ]
    assert places[0] == places[1] != places[2]
    assert sorted(places[0]) == sorted(places[2]) == sorted(f"data.jsonl:{line}" for line in range(1, 21))


def test_several_data_sets(tokenizer: Any, in_tmp_path: Path) -> None:
    first = dataset(write_lines(in_tmp_path / "a.jsonl", alpaca_rows(4)))
    second = dataset(write_lines(in_tmp_path / "b.jsonl", CHATS), "chat_template", key=("datasets", 1))
    data = prepare(plan_of(in_tmp_path, first, second), tokenizer)
    assert len(data.train) == 9
    assert [(entry["path"], entry["type"], entry["rows"]) for entry in data.stats["datasets"]] == [
        ("a.jsonl", "alpaca", 4),
        ("b.jsonl", "chat_template", 5),
    ]


def test_stats_are_json_and_add_up(tokenizer: Any, in_tmp_path: Path) -> None:
    path = write_lines(in_tmp_path / "data.jsonl", alpaca_rows(20))
    data = prepare(plan_of(in_tmp_path, dataset(path), val_set_size=0.2), tokenizer)
    stats = json.loads(json.dumps(data.stats))
    assert data.val is not None
    assert (stats["train"]["examples"], stats["val"]["examples"]) == (16, 4)
    assert not set(data.train["place"]) & set(data.val["place"])
    for key in ("tokens", "trained_tokens"):
        assert stats["train"][key] + stats["val"][key] == stats["datasets"][0][key]
    assert stats["train"]["tokens"] == sum(len(ids) for ids in data.train["input_ids"])
    assert stats["train"]["trained_tokens"] == sum(label != -100 for row in data.train["labels"] for label in row)


def test_validation_data_sets(tokenizer: Any, in_tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    train = dataset(write_lines(in_tmp_path / "train.jsonl", alpaca_rows(6)))
    path = write_lines(in_tmp_path / "val.jsonl", alpaca_rows(3, start=5))
    val = dataset(path, key=("test_datasets", 0))
    data = prepare(plan_of(in_tmp_path, train, validation=[val], checks={"leakage": "warn"}), tokenizer)
    assert data.val is not None
    assert (len(data.train), len(data.val)) == (6, 3)
    assert "warning: leakage: 1 of 3 validation examples are in the training data too" in capsys.readouterr().out


def test_test_datasets_of_plain_text_serve_validation_alone(
    tokenizer: Any, in_tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    train = dataset(write_lines(in_tmp_path / "train.jsonl", [{"text": "one"}]), "completion")
    path = write_lines(in_tmp_path / "val.jsonl", [{"text": "two"}])
    val = dataset(path, "completion", key=("test_datasets", 0))
    data = prepare(plan_of(in_tmp_path, train, validation=[val], evaluation=[val]), tokenizer)
    assert data.test == ()
    assert data.val is not None
    assert "note: val.jsonl: its rows have no answer to compare with" in capsys.readouterr().out


def test_items(tokenizer: Any, in_tmp_path: Path) -> None:
    train = dataset(write_lines(in_tmp_path / "train.jsonl", alpaca_rows(3)))
    first = dataset(write_lines(in_tmp_path / "a.jsonl", alpaca_rows(2, start=3)))
    second = dataset(write_lines(in_tmp_path / "b.jsonl", CHATS), "chat_template")
    items = prepare(plan_of(in_tmp_path, train, evaluation=[first, second]), tokenizer).test
    assert [item.index for item in items] == list(range(7))
    assert items[0].references == ("number 3",)
    assert items[0].prompt.endswith("### Instruction:\nSay number 3.\n\n### Response:\n")
    assert items[0].row["instruction"] == "Say number 3."
    assert (items[2].place, items[2].references) == ("b.jsonl:1", ("Answer 0",))
    asked = tokenizer.apply_chat_template(CHATS[0]["messages"][:1], tokenize=False, add_generation_prompt=True)
    assert items[2].prompt == asked


def test_the_last_answer_is_the_reference(tokenizer: Any) -> None:
    example = Example(
        [Segment("a"), Segment("b", True, True), Segment("c"), Segment("d", answer=True), Segment("e", answer=True)]
    )
    item = item_of(Example([*example.segments, Segment("f", True)]), {}, "x:1", 0, tokenizer)
    assert (item.prompt, item.references) == ("abc", ("de",))
    with pytest.raises(RowError, match="there is no prompt before the answer"):
        item_of(Example([Segment("a", True, True)]), {}, "x:1", 0, tokenizer)


def test_over_long_examples_are_dropped_and_said(
    tokenizer: Any, in_tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    rows = [*alpaca_rows(5), {"instruction": "word " * 300, "output": "b"}]
    path = write_lines(in_tmp_path / "data.jsonl", rows)
    plan = plan_of(in_tmp_path, dataset(path), sequence_len=200, checks={"too_long": "warn"})
    data = prepare(plan, tokenizer)
    entry = data.stats["datasets"][0]
    assert (entry["rows"], entry["examples"], entry["dropped_too_long"]) == (6, 5, 1)
    longest = len(encode_prompt("word " * 300, tokenizer))
    assert entry["longest"] == entry["length_99"] > longest
    assert (
        "warning: too_long: dropped 1 example of 6 longer than sequence_len 200 (data.jsonl:6); "
        f"the longest has {entry['longest']:,} tokens, sequence_len {entry['length_99']:,} would fit 99 %"
        in capsys.readouterr().out
    )


def test_over_long_examples_are_cut(tokenizer: Any, in_tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    rows = [{"instruction": "a", "output": "long " * 300}, {"instruction": "word " * 300, "output": "b"}]
    path = write_lines(in_tmp_path / "data.jsonl", rows)
    cut = {"sequence_len": 200, "excess_length_strategy": "truncate"}
    plan = plan_of(in_tmp_path, dataset(path), checks={"too_long": "warn", "nothing_to_train": "error"}, **cut)
    data = prepare(plan, tokenizer)
    assert [len(ids) for ids in data.train["input_ids"]] == [200]
    assert (data.stats["datasets"][0]["truncated"], data.stats["datasets"][0]["nothing_to_train"]) == (2, 1)
    out = capsys.readouterr().out
    assert "warning: too_long: cut 2 examples of 2 longer than sequence_len 200 (data.jsonl:1, 2)" in out
    assert "warning: too_long: dropped 1 example of which nothing trained is left after the cut (data.jsonl:2)" in out


def test_table(tokenizer: Any, in_tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    path = write_lines(in_tmp_path / "data.jsonl", alpaca_rows(20))
    held_out = write_lines(in_tmp_path / "test.jsonl", alpaca_rows(3, start=20))
    data = prepare(plan_of(in_tmp_path, dataset(path), evaluation=[dataset(held_out)], val_set_size=5), tokenizer)
    heading, train, evaluation, val = capsys.readouterr().out.splitlines()
    assert heading.split() == ["data", "rows", "examples", "tokens", "trained", "dropped", "straddling"]
    entry = data.stats["datasets"][0]
    numbers = ["20", "20", f"{entry['tokens']:,}", f"{entry['trained_share']:.1%}", "0", "0"]
    assert train.split() == ["train", "data.jsonl", *numbers]
    assert evaluation.split() == ["evaluation", "test.jsonl", "3"]
    assert val.startswith("of these, val_set_size 5")


def test_straddling_and_missing_ends_are_said(
    tokenizer: Any, in_tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    row = {"segments": [{"label": False, "text": "Answer: "}, {"label": True, "text": "the fox"}]}
    path = write_lines(in_tmp_path / "data.jsonl", [row] * 3)
    plan = plan_of(in_tmp_path, dataset(path, "input_output"), checks={"straddling": "warn", "end_of_turn": "warn"})
    data = prepare(plan, tokenizer)
    assert (data.stats["datasets"][0]["straddling"], data.stats["datasets"][0]["without_end"]) == (3, 3)
    out = capsys.readouterr().out
    assert "warning: straddling: 3 tokens over the seam of trained and untrained text, in 3 examples" in out
    assert "warning: end_of_turn: 3 of 3 examples end their trained text without an end-of-turn token" in out


@pytest.mark.parametrize("whole", [False, True])
def test_ends_of_turn_are_seen(tokenizer: Any, in_tmp_path: Path, whole: bool) -> None:
    path = write_lines(in_tmp_path / "data.jsonl", CHATS)
    data = prepare(plan_of(in_tmp_path, dataset(path, "chat_template", train_on_inputs=whole)), tokenizer)
    assert data.stats["datasets"][0]["without_end"] == 0
    data = prepare(plan_of(in_tmp_path, dataset(path, "chat_template", train_on_eos="none")), tokenizer)
    assert data.stats["datasets"][0]["without_end"] == 5


def test_notes_are_counted(tokenizer: Any, in_tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    jinja = (
        "{% for m in messages %}<|im_start|>{{ m.role }}\n{% if m.role == 'assistant' %}<think></think>{% endif %}"
        "{{ m.content }}<|im_end|>\n{% endfor %}{% if add_generation_prompt %}<|im_start|>assistant\n{% endif %}"
    )
    path = write_lines(in_tmp_path / "data.jsonl", CHATS)
    plan = plan_of(in_tmp_path, dataset(path, "chat_template", chat_template_jinja=jinja), chat_template_jinja=jinja)
    data = prepare(plan, tokenizer)
    (note,) = data.stats["datasets"][0]["notes"]
    assert note.startswith("the template puts '<think></think>' between its generation prompt and the answer")
    assert f"note: data.jsonl: 5 examples: {note}" in capsys.readouterr().out
    assert trained_text(data.train[0], tokenizer).startswith("<think></think>Answer ")


def test_the_recipes_template_is_saved_with_the_tokenizer(tokenizer: Any, in_tmp_path: Path) -> None:
    path = write_lines(in_tmp_path / "data.jsonl", CHATS)
    own = tokenizer.chat_template
    prepare(plan_of(in_tmp_path, dataset(path, "chat_template")), tokenizer)
    assert tokenizer.chat_template == own
    prepare(
        plan_of(in_tmp_path, dataset(path, "chat_template", chat_template="llama3"), chat_template="llama3"), tokenizer
    )
    assert "<|start_header_id|>" in tokenizer.chat_template


def test_a_folder_that_cannot_be_written_is_told(tokenizer: Any, in_tmp_path: Path) -> None:
    path = write_lines(in_tmp_path / "data.jsonl", alpaca_rows(20))
    (in_tmp_path / "prepared").write_text("a file in the way")
    plan = plan_of(in_tmp_path, dataset(path), dataset_prepared_path=str(in_tmp_path / "prepared"))
    with pytest.raises(UserError, match=r"prepared data cannot be written to '.*prepared': File exists"):
        prepare(plan, tokenizer)


def test_thinking_is_trained_and_is_no_part_of_what_is_asked(
    tokenizer: Any, in_tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    jinja = (
        "{% for m in messages %}<|im_start|>{{ m.role }}\n{% if m.why %}<think>{{ m.why }}</think>\n{% endif %}"
        "{{ m.content }}<|im_end|>\n{% endfor %}{% if add_generation_prompt %}<|im_start|>assistant\n{% endif %}"
    )

    def chat(why: str) -> dict[str, Any]:
        return {
            "messages": [{"role": "user", "content": "Is it?"}, {"role": "assistant", "content": "yes", "why": why}]
        }

    options = {"chat_template_jinja": jinja, "template_thinking_key": "why", "field_thinking": "why"}
    train = dataset(write_lines(in_tmp_path / "train.jsonl", [chat("It is.")]), "chat_template", **options)
    path = write_lines(in_tmp_path / "test.jsonl", [chat("It seems so.")])
    test = dataset(path, "chat_template", key=("evaluation", "datasets", 0), **options)
    data = prepare(
        plan_of(in_tmp_path, train, evaluation=[test], checks={"leakage": "warn", "round_trip": "warn"}), tokenizer
    )
    assert [trained_text(row, tokenizer) for row in data.train] == ["<think>It is.</think>\nyes<|im_end|>"]
    assert [(item.prompt[-12:], item.references, item.thinking_ends) for item in data.test] == [
        ("|>assistant\n", ("yes",), "</think>")
    ]
    # the same question with the same answer is the same, whatever is thought; and a server asks as was trained
    out = capsys.readouterr().out
    assert "leakage: 1 of 1 evaluation items are in the training data too" in out
    assert "round_trip:" not in out
