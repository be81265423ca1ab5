from __future__ import annotations

import json
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest

from core.errors import UserError
from core.evaluation.prompts import few_shot, zero_shot
from core.evaluation.shots import draw_shots, split_example
from core.types import Conversation, DatasetFormat, DatasetPlan, Example, Segment
from tests.core.evaluation.making import make_items

TITLES = [{"instruction": "Name the class.", "input": f"thing {n}", "output": f"class {n % 3}"} for n in range(30)]


def write_rows(path: Path, rows: list[dict[str, Any]]) -> str:
    path.write_text("".join(f"{json.dumps(row)}\n" for row in rows))
    return str(path)


def test_zero_shot_is_the_training_prompt() -> None:
    items = make_items("a", "b")
    assert zero_shot(items).texts == ("Question 0?", "Question 1?")
    assert zero_shot(items).shots == ()


def test_shots_are_training_rows_with_different_answers(prepared: Any, tmp_path: Path) -> None:
    path = write_rows(tmp_path / "titles.jsonl", TITLES)
    plan, data, tokenizer = prepared({}, datasets=[{"path": path, "type": "alpaca"}])
    shots = draw_shots(plan, data, data.test, tokenizer, 3)
    assert {shot.answer for shot in shots} == {"class 0", "class 1", "class 2"}
    assert draw_shots(plan, data, data.test, tokenizer, 3) == shots
    assert len({shot.place for shot in draw_shots(plan, data, data.test, tokenizer, 8)}) == 8
    assert {shot.place for shot in shots} <= set(data.train["place"])
    assert draw_shots(plan, data, data.test, tokenizer, 0) == []


@pytest.mark.parametrize("choose", ["random", "nearest"])
def test_more_examples_than_there_are_rows_are_counted_as_asked_for(prepared: Any, tmp_path: Path, choose: str) -> None:
    path = write_rows(tmp_path / "titles.jsonl", TITLES[:4])
    plan, data, tokenizer = prepared({}, datasets=[{"path": path, "type": "alpaca"}])
    prompts = few_shot(plan, {"shots": 9, "choose": choose}, data, data.test, tokenizer)
    assert (prompts.wanted, prompts.count, prompts.shortened) == (9, 4, 0)


def test_another_seed_draws_other_shots(prepared: Any, tmp_path: Path) -> None:
    path = write_rows(tmp_path / "titles.jsonl", TITLES)
    places = []
    for seed in (1, 2):
        plan, data, tokenizer = prepared({}, datasets=[{"path": path, "type": "alpaca"}], seed=seed)
        places.append([shot.place for shot in draw_shots(plan, data, data.test, tokenizer, 3)])
    assert places[0] != places[1]


def test_held_out_rows_are_never_shown(prepared: Any, tmp_path: Path) -> None:
    path = write_rows(tmp_path / "titles.jsonl", TITLES)
    plan, data, tokenizer = prepared({}, datasets=[{"path": path, "type": "alpaca"}], val_set_size=0.5)
    shots = draw_shots(plan, data, data.test, tokenizer, 30)
    assert len(shots) == 15
    assert not {shot.place for shot in shots} & set(data.val["place"])

    asked = replace(data.test[0], prompt=_prompt_of(plan, shots[0].place, tokenizer))
    assert shots[0].place not in {shot.place for shot in draw_shots(plan, data, [asked], tokenizer, 30)}


def _prompt_of(plan: Any, place: str, tokenizer: Any) -> str:
    from core.data import read_rows

    (row,) = [row for row in read_rows(plan.datasets[0]) if row.place == place]
    return split_example(plan.datasets[0].format.render(row.values, plan.datasets[0].options, tokenizer)[0])[0]


def test_a_chat_model_is_asked_in_turns(prepared: Any) -> None:
    plan, data, tokenizer = prepared()
    prompts = few_shot(plan, {"shots": 2, "instruction": "Even?"}, data, data.test, tokenizer)
    assert len(prompts.texts) == len(data.test)
    text = prompts.texts[0]
    assert text.startswith("<|im_start|>system\nEven?<|im_end|>\n<|im_start|>user\nIs ")
    assert text.endswith("<|im_start|>user\nIs 100 even?<|im_end|>\n<|im_start|>assistant\n")
    assert text.count("<|im_start|>assistant\n") == 3
    assert "Answer with yes or no." not in text, "the instruction stands in place of the rows' own"
    assert prompts.form == "chat turns: instruction, 2 worked examples, question"
    assert len(prompts.shots) == 2


def test_without_an_instruction_the_rows_own_is_told_once(prepared: Any) -> None:
    plan, data, tokenizer = prepared()
    text = few_shot(plan, {}, data, data.test, tokenizer).texts[0]
    assert text.startswith("<|im_start|>system\nAnswer with yes or no.<|im_end|>\n")
    assert text.count("Answer with yes or no.") == 1
    assert text.count("<|im_start|>user") == 6, "five shots by default, and the question"


def test_shots_of_another_task_keep_their_own_instruction(prepared: Any, tmp_path: Path) -> None:
    path = write_rows(tmp_path / "titles.jsonl", TITLES)
    plan, data, tokenizer = prepared({}, datasets=[{"path": path, "type": "alpaca"}])
    text = few_shot(plan, {"shots": 1}, data, data.test, tokenizer).texts[0]
    assert "user\nName the class.\n\nthing " in text
    assert text.startswith("<|im_start|>system\nAnswer with yes or no.")


def test_a_template_without_system_turns_gets_the_instruction_in_the_first_question(prepared: Any) -> None:
    plan, data, tokenizer = prepared()
    refuse = "{% if messages[0].role == 'system' %}{{ raise_exception('no system turn') }}{% endif %}"
    for template in (refuse + tokenizer.chat_template, _ignores_system(tokenizer.chat_template)):
        tokenizer.chat_template = template
        text = few_shot(plan, {"shots": 1, "instruction": "Even?"}, data, data.test, tokenizer).texts[0]
        assert text.startswith("<|im_start|>user\nEven?\n\nIs ")


def _ignores_system(template: str) -> str:
    start = "{% for message in messages %}"
    return template.replace(start, start + "{% if message.role != 'system' %}").replace(
        "{% endfor %}", "{% endif %}{% endfor %}"
    )


def test_without_a_chat_template_shots_are_text_as_trained(prepared: Any) -> None:
    plan, data, tokenizer = prepared()
    tokenizer.chat_template = None
    tokenizer.bos_token = "<|im_start|>"
    bos_items = [replace(item, prompt="<|im_start|>" + item.prompt) for item in data.test]
    prompts = few_shot(plan, {"shots": 2, "instruction": "Even?"}, data, data.test, tokenizer)
    text = prompts.texts[0]
    assert text.startswith("Even?\n\nBelow is an instruction")
    assert text.endswith(data.test[0].prompt)
    assert text.count("### Response:\n") == 3
    assert text.count("<|im_end|>") == 2, "the end of turn is shown, or the base would not know where to stop"
    assert prompts.form == "text: instruction, 2 worked examples as in training, question"
    with_bos = few_shot(plan, {"shots": 2, "instruction": "Even?"}, data, bos_items, tokenizer).texts[0]
    assert with_bos == "<|im_start|>" + text


def test_conversations_become_earlier_turns(prepared: Any, tmp_path: Path) -> None:
    def chat(number: int) -> dict[str, Any]:
        return {
            "conversations": [
                {"from": "system", "value": "Be brief."},
                {"from": "human", "value": f"hello {number}"},
                {"from": "gpt", "value": "yes?"},
                {"from": "human", "value": f"is {number} even"},
                {"from": "gpt", "value": ["yes", "no"][number % 2]},
            ]
        }

    kind = {
        "type": "chat_template",
        "field_messages": "conversations",
        "message_property_mappings": {"role": "from", "content": "value"},
    }
    train = write_rows(tmp_path / "train_chats.jsonl", [chat(n) for n in range(8)])
    test = write_rows(tmp_path / "test_chats.jsonl", [chat(n) for n in range(20, 23)])
    plan, data, tokenizer = prepared({"datasets": [{"path": test, **kind}]}, datasets=[{"path": train, **kind}])
    text = few_shot(plan, {"shots": 1}, data, data.test, tokenizer).texts[0]
    assert text.startswith("<|im_start|>system\nBe brief.<|im_end|>\n<|im_start|>user\nhello ")
    assert text.count("Be brief.") == 1
    assert text.endswith("<|im_start|>user\nis 20 even<|im_end|>\n<|im_start|>assistant\n")
    assert text.count("<|im_start|>assistant") == 4


def test_any_other_format_asks_with_its_whole_prompt(prepared: Any) -> None:
    def render(row: Any, options: Any, tokenizer: Any) -> list[Example]:
        return [Example([Segment(f"Q: {row['input']}\nA: "), Segment(row["output"], trained=True, answer=True)])]

    plan, data, tokenizer = prepared()
    qa = DatasetFormat("qa", render)
    plan = replace(
        plan,
        datasets=tuple(replace(dataset, format=qa) for dataset in plan.datasets),
        evaluation=replace(plan.evaluation, datasets=(DatasetPlan("test", qa, {}, ()),)),
    )
    items = [replace(item, prompt=f"Q: {item.row['input']}\nA: ") for item in data.test]
    text = few_shot(plan, {"shots": 1}, data, items, tokenizer).texts[0]
    assert text.count("user\nQ: Is ") == 2
    assert text.endswith("<|im_start|>user\nQ: Is 100 even?\nA: <|im_end|>\n<|im_start|>assistant\n")


def test_no_row_to_show_is_an_error_that_says_so(prepared: Any) -> None:
    plan, data, tokenizer = prepared()
    dataset = replace(plan.datasets[0], format=DatasetFormat("none", lambda *_: [Example([Segment("text", True)])]))
    with pytest.raises(UserError, match="no training row that could be shown") as caught:
        few_shot(replace(plan, datasets=(dataset,)), {}, data, data.test, tokenizer)
    assert "shots: 0" in (caught.value.help or "")


def test_the_form_can_be_chosen(prepared: Any) -> None:
    plan, data, tokenizer = prepared()
    text = few_shot(plan, {"shots": 1, "form": "text"}, data, data.test, tokenizer)
    assert text.form == "text: 1 worked example as in training, question"
    assert text.texts[0].count("### Response:") == 2
    tokenizer.chat_template = None
    with pytest.raises(UserError, match="no chat template"):
        few_shot(plan, {"shots": 1, "form": "chat"}, data, data.test, tokenizer)


def test_adjacent_answer_segments_are_one_answer_as_in_a_test_item() -> None:
    parts = (Segment("2 + 2? "), Segment("It is ", trained=True, answer=True), Segment("4", trained=True, answer=True))
    assert split_example(Example((*parts, Segment("<end>", trained=True)))) == ("2 + 2? ", "It is 4")
    assert split_example(Example((Segment("text", trained=True),))) == ("", None)


def test_the_nearest_examples_are_those_of_like_wording(prepared: Any, tmp_path: Path) -> None:
    subjects = ["fracture of the left arm", "chronic heart failure", "fever and cough", "fracture of the leg", "asthma"]
    rows = [{"instruction": "Code it.", "input": text, "output": text[:3]} for text in subjects * 2]
    train = write_rows(tmp_path / "codes.jsonl", rows)
    asked = [{"instruction": "Code it.", "input": "Fracture of the right arm", "output": "fra"}]
    test = write_rows(tmp_path / "asked.jsonl", asked)
    plan, data, tokenizer = prepared(
        {"datasets": [{"path": test, "type": "alpaca"}]}, datasets=[{"path": train, "type": "alpaca"}]
    )
    prompts = few_shot(plan, {"shots": 3, "choose": "nearest"}, data, data.test, tokenizer)
    turns = prompts.texts[0].split("<|im_start|>user\n")[1:]
    assert [turn.split("<|im_end|>")[0] for turn in turns] == [
        "fracture of the leg",
        "fracture of the left arm",
        "fracture of the left arm",
        "Fracture of the right arm",
    ], "the nearest stands next to the question"
    assert prompts.form == "chat turns: 3 nearest worked examples, question"
    assert (prompts.count, prompts.shots) == (3, ())
    assert few_shot(plan, {"shots": 3, "choose": "nearest"}, data, data.test, tokenizer) == prompts


def test_a_format_says_how_its_rows_are_put_to_a_chat_model(prepared: Any) -> None:
    plan, data, tokenizer = prepared()

    def conversation(row: Any, options: Any) -> Conversation:
        return Conversation("Judge.", ({"role": "user", "content": row["input"].upper()},))

    spoken = replace(plan.datasets[0].format, conversation=conversation)
    plan = replace(
        plan,
        datasets=tuple(replace(dataset, format=spoken) for dataset in plan.datasets),
        evaluation=replace(
            plan.evaluation, datasets=tuple(replace(one, format=spoken) for one in plan.evaluation.datasets)
        ),
    )
    text = few_shot(plan, {"shots": 1}, data, data.test, tokenizer).texts[0]
    assert text.startswith("<|im_start|>system\nJudge.<|im_end|>\n<|im_start|>user\nIS ")
    assert text.endswith("<|im_start|>user\nIS 100 EVEN?<|im_end|>\n<|im_start|>assistant\n")


def test_core_names_no_format_of_its_own() -> None:
    """Whether a row is a conversation is for its format to say."""
    for module in ("prompts", "shots"):
        text = (Path(__file__).parents[3] / "core" / "evaluation" / f"{module}.py").read_text()
        assert '"alpaca"' not in text
        assert '"chat_template"' not in text
