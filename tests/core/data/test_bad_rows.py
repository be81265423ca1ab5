"""One test per kind of bad data, with the message the user sees."""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path
from typing import Any

import pytest

from core.data import prepare
from core.errors import DataError, PluginError, UserError
from core.types import DatasetFormat, DatasetPlan
from tests.core.data.making import SHAREGPT, alpaca_rows, dataset, plan_of, write_lines


def refusal(tokenizer: Any, folder: Path, *datasets: DatasetPlan, **values: Any) -> DataError:
    with pytest.raises(DataError) as error:
        prepare(plan_of(folder, *datasets, **values), tokenizer)
    return error.value


def with_row(path: Path, row: Mapping[str, Any] | str, type: str = "alpaca", **options: Any) -> DatasetPlan:
    good: dict[str, list[Any]] = {
        "alpaca": alpaca_rows(6),
        "completion": [{"text": "text"}] * 6,
        "input_output": [{"segments": [{"label": True, "text": "a"}]}] * 6,
        "chat_template": [{"messages": [{"role": "user", "content": "a"}, {"role": "assistant", "content": "b"}]}] * 6,
    }
    return dataset(write_lines(path, [*good[type], row]), type, **options)


def test_malformed_line(tokenizer: Any, in_tmp_path: Path) -> None:
    error = refusal(tokenizer, in_tmp_path, with_row(in_tmp_path / "data.jsonl", '{"instruction": "a" "output": "b"}'))
    assert error.message == (
        "data.jsonl:7: not valid JSON: expecting ',' delimiter at column 21: " + '{"instruction": "a" "output": "b"}'
    )
    assert error.help == "correct this row or take it out"


ROWS = [
    ("alpaca", {"instruction": "a", "input": ""}, "row has no field 'output'; it has: instruction, input"),
    ("alpaca", {"instruction": "a", "output": None}, "field 'output' is null, not text"),
    ("alpaca", {"instruction": "a", "output": 42}, "field 'output' is the number 42, not text"),
    ("alpaca", {"instruction": "a", "output": " "}, "field 'output' is empty"),
    ("alpaca", {"instruction": "", "output": "b"}, "field 'instruction' is empty"),
    ("alpaca", {"instruction": "a", "input": ["c"], "output": "b"}, "field 'input' is a list, not text"),
    ("completion", {"text": True}, "field 'text' is true, not text"),
    ("completion", {"text": ""}, "field 'text' is empty"),
    ("input_output", {"segments": "a"}, "field 'segments' is the text 'a', not a list of segments"),
    ("input_output", {"segments": []}, "field 'segments' is an empty list, not a list of segments"),
    ("input_output", {"segments": ["a"]}, "segment 1 is the text 'a', not an object with a label and a text"),
    ("input_output", {"segments": [{"text": "a"}]}, "segment 1 has no 'label'; it has: text"),
    (
        "input_output",
        {"segments": [{"label": 1, "text": "a"}]},
        "the label of segment 1 is the number 1, not true or false",
    ),
    ("input_output", {"segments": [{"label": True, "text": None}]}, "the text of segment 1 is null, not text"),
    ("chat_template", {"messages": []}, "field 'messages' holds no messages"),
    ("chat_template", {"messages": "a"}, "field 'messages' is the text 'a', not a list of messages"),
    ("chat_template", {"messages": ["a"]}, "message 1 is the text 'a', not an object with a role and a content"),
    ("chat_template", {"messages": [{"role": "user"}]}, "message 1 has no 'content'; it has: role"),
    (
        "chat_template",
        {"messages": [{"role": "user", "content": None}]},
        "the content of message 1 (user) is null, not text",
    ),
    (
        "chat_template",
        {"messages": [{"role": "bot", "content": "a"}]},
        "message 1 has the role 'bot', which is none of human, user, gpt, assistant, system, developer, tool",
    ),
    (
        "chat_template",
        {"messages": [{"role": "user", "content": "a"}, {"role": "assistant", "content": ""}]},
        "message 2 (assistant) is empty",
    ),
]


@pytest.mark.parametrize(("type", "row", "problem"), ROWS)
def test_bad_row(tokenizer: Any, in_tmp_path: Path, type: str, row: Mapping[str, Any], problem: str) -> None:
    error = refusal(tokenizer, in_tmp_path, with_row(in_tmp_path / "data.jsonl", row, type))
    assert error.message.startswith(f"data.jsonl:7: {problem}: {{")
    assert error.help


def test_all_bad_rows_are_counted_and_ten_are_shown(tokenizer: Any, in_tmp_path: Path) -> None:
    rows = [*alpaca_rows(100), *["broken"] * 25]
    error = refusal(tokenizer, in_tmp_path, dataset(write_lines(in_tmp_path / "data.jsonl", rows)))
    first, *lines = error.message.splitlines()
    assert first == "25 of 125 rows of data.jsonl cannot be used"
    assert lines[0] == "  data.jsonl:101: not valid JSON: expecting value at column 1: broken"
    assert len(lines) == 11
    assert lines[-1] == "  ... and 15 more"


def test_rows_are_shown_shortened(tokenizer: Any, in_tmp_path: Path) -> None:
    error = refusal(tokenizer, in_tmp_path, with_row(in_tmp_path / "data.jsonl", {"instruction": "long\n" * 500}))
    assert error.message.endswith("…")
    assert len(error.message) < 250
    assert "\n" not in error.message


def test_wrong_columns_propose_a_mapping(tokenizer: Any, in_tmp_path: Path) -> None:
    rows = [{"question": "a", "answer": "b"}] * 3
    error = refusal(tokenizer, in_tmp_path, dataset(write_lines(in_tmp_path / "data.jsonl", rows)))
    assert error.message == (
        "data.jsonl: no row has the field 'instruction' that format 'alpaca' reads; the fields are: question, answer"
    )
    assert error.help == (
        "for these fields, write in the recipe:\n"
        "    type: alpaca\n    field_instruction: question\n    field_output: answer"
    )
    proposed = dataset(in_tmp_path / "data.jsonl", field_instruction="question", field_output="answer")
    assert len(prepare(plan_of(in_tmp_path, proposed), tokenizer).train) == 3


def test_most_rows_lack_a_column(tokenizer: Any, in_tmp_path: Path) -> None:
    rows = [*alpaca_rows(2), *[{"instruction": "a", "response": "b"}] * 5]
    error = refusal(tokenizer, in_tmp_path, dataset(write_lines(in_tmp_path / "data.jsonl", rows)))
    assert error.message == (
        "data.jsonl: 5 of 7 rows lack the field 'output' that format 'alpaca' reads; "
        "the fields are: instruction, response"
    )


def test_sharegpt_without_its_options(tokenizer: Any, in_tmp_path: Path) -> None:
    rows = [{"conversations": [{"from": "human", "value": "a"}, {"from": "gpt", "value": "b"}]}] * 3
    path = write_lines(in_tmp_path / "data.jsonl", rows)
    proposal = (
        "for these fields, write in the recipe:\n    type: chat_template\n    field_messages: conversations\n"
        "    message_property_mappings: {role: from, content: value}"
    )
    assert refusal(tokenizer, in_tmp_path, dataset(path, "chat_template")).help == proposal
    half = dataset(path, "chat_template", field_messages="conversations")
    assert refusal(tokenizer, in_tmp_path, half).help == proposal
    assert len(prepare(plan_of(in_tmp_path, dataset(path, "chat_template", **SHAREGPT)), tokenizer).train) == 3


def test_wrong_delimiter(tokenizer: Any, in_tmp_path: Path) -> None:
    (in_tmp_path / "data.csv").write_text("instruction;output\na;b\n")
    error = refusal(tokenizer, in_tmp_path, dataset(in_tmp_path / "data.csv"))
    assert error.help is not None
    assert error.help.startswith("the columns are parted by another character")


def test_the_template_refuses_a_conversation(tokenizer: Any, in_tmp_path: Path) -> None:
    row = {"messages": [{"role": "user", "content": "a"}] * 2}
    plan = with_row(in_tmp_path / "data.jsonl", row, "chat_template", chat_template="gemma")
    tokenizer.bos_token = "<|im_start|>"
    error = refusal(tokenizer, in_tmp_path, plan)
    assert error.message.startswith(
        "data.jsonl:7: the chat template refuses it: "
        "conversation roles must alternate user/assistant/user/assistant/...: {"
    )


def test_nothing_left_to_train_on(tokenizer: Any, in_tmp_path: Path) -> None:
    rows = [{"messages": [{"role": "user", "content": "a"}]}] * 2
    rows += [{"messages": [{"role": "user", "content": "long " * 50}]}] * 3
    path = write_lines(in_tmp_path / "data.jsonl", rows)
    error = refusal(tokenizer, in_tmp_path, dataset(path, "chat_template"), sequence_len=20)
    assert error.message.startswith(
        "nothing left to train on: of 5 examples 3 are longer than sequence_len 20 (the shortest has "
    )
    assert error.message.endswith("tokens) and 2 have no token that is trained")
    assert error.help == (
        "raise sequence_len, or set excess_length_strategy: truncate; "
        "check roles_to_train, train_on_inputs and the labels of the rows"
    )


def test_too_long_with_raise(tokenizer: Any, in_tmp_path: Path) -> None:
    plan = with_row(in_tmp_path / "data.jsonl", {"instruction": "word " * 300, "output": "b"})
    error = refusal(tokenizer, in_tmp_path, plan, sequence_len=200, excess_length_strategy="raise")
    assert error.message.startswith("1 of 7 examples of data.jsonl are longer than sequence_len 200 (the longest has ")
    assert error.message.endswith("tokens): data.jsonl:7")


def test_evaluation_items_in_the_training_data(tokenizer: Any, in_tmp_path: Path) -> None:
    train = dataset(write_lines(in_tmp_path / "train.jsonl", alpaca_rows(10)))
    test = dataset(write_lines(in_tmp_path / "test.jsonl", alpaca_rows(10, start=3)))
    with pytest.raises(DataError) as error:
        prepare(plan_of(in_tmp_path, train, evaluation=[test], checks={"leakage": "error"}), tokenizer)
    assert error.value.message == (
        "7 of 10 evaluation items are in the training data too, so their score would mean nothing"
        "\n  test.jsonl:1 is also train.jsonl:4"
        "\n  test.jsonl:2 is also train.jsonl:5"
        "\n  test.jsonl:3 is also train.jsonl:6"
        "\n  test.jsonl:4 is also train.jsonl:7"
        "\n  test.jsonl:5 is also train.jsonl:8"
        "\n  ... and 2 more"
    )


def test_evaluation_without_answers(tokenizer: Any, in_tmp_path: Path) -> None:
    train = dataset(write_lines(in_tmp_path / "train.jsonl", alpaca_rows(3)))
    path = write_lines(in_tmp_path / "test.jsonl", [{"text": "a"}])
    key = ("evaluation", "datasets", 0)
    with pytest.raises(DataError) as error:
        prepare(plan_of(in_tmp_path, train, evaluation=[dataset(path, "completion", key=key)]), tokenizer)
    assert error.value.message == 'test.jsonl:1: there is no answer to compare with: {"text": "a"}'


def test_every_data_set_is_read_before_refusing(tokenizer: Any, in_tmp_path: Path) -> None:
    first = with_row(in_tmp_path / "a.jsonl", "broken")
    second = dataset(in_tmp_path / "missing.jsonl")
    error = refusal(tokenizer, in_tmp_path, first, second)
    assert error.message.splitlines() == [
        "a.jsonl:7: not valid JSON: expecting value at column 1: broken",
        "no data at 'missing.jsonl'",
    ]


def test_tokenizer_without_chat_template(tokenizer: Any, in_tmp_path: Path) -> None:
    plan = with_row(in_tmp_path / "data.jsonl", {"messages": []}, "chat_template")
    tokenizer.chat_template = None
    with pytest.raises(UserError) as error:
        prepare(plan_of(in_tmp_path, plan), tokenizer)
    assert error.value.message == "the tokenizer has no chat template, and the recipe names none"
    assert error.value.help is not None
    assert error.value.help.startswith("set chat_template to one of chatml, llama3, ")


def test_tokenizer_without_end_of_text(tokenizer: Any, in_tmp_path: Path) -> None:
    tokenizer.eos_token = None
    plan = dataset(write_lines(in_tmp_path / "data.jsonl", alpaca_rows(1)))
    with pytest.raises(UserError, match="the tokenizer has no end-of-text token, so the model could not learn to stop"):
        prepare(plan_of(in_tmp_path, plan), tokenizer)


def test_key_error_inside_a_format_is_a_bug_not_a_bad_row(tokenizer: Any, in_tmp_path: Path) -> None:
    def render(row: Any, options: Any, tokenizer: Any) -> Any:
        return {}[3]

    path = write_lines(in_tmp_path / "data.jsonl", alpaca_rows(1))
    with pytest.raises(KeyError):
        prepare(plan_of(in_tmp_path, DatasetPlan(str(path), DatasetFormat("own", render), {}, ())), tokenizer)


def test_format_that_returns_something_else(tokenizer: Any, in_tmp_path: Path) -> None:
    path = write_lines(in_tmp_path / "data.jsonl", alpaca_rows(1))
    own = DatasetFormat("own", lambda row, options, tokenizer: "text")  # type: ignore[arg-type,return-value]
    with pytest.raises(PluginError, match="format 'own' returned 'text', not a list of Example"):
        prepare(plan_of(in_tmp_path, DatasetPlan(str(path), own, {}, ())), tokenizer)
