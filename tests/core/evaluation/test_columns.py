"""Columns beside base and tuned: other models, merged and packed copies, each asked as it says."""

from __future__ import annotations

import json
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest
import torch

from core.errors import DataError, RecipeError, UserError
from core.evaluation import evaluate
from core.evaluation.answerers import Tuned, load_saved
from core.models import save_model

METRICS = [{"type": "accuracy"}, {"type": "perplexity"}]


@pytest.fixture(scope="module")
def other_model(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Another tiny model, whose chat template is its own."""
    from transformers import AutoTokenizer

    from core.testing.tiny import make_tiny_model

    folder = make_tiny_model(tmp_path_factory.mktemp("other") / "bigger", seed=5, hidden_size=48)
    tokenizer = AutoTokenizer.from_pretrained(str(folder))
    turn = "{{ '[' + message['role'] + '] ' + message['content'] }}"
    end = "{% if add_generation_prompt %}[assistant] {% endif %}"
    tokenizer.chat_template = f"{{% for message in messages %}}{turn}{{% endfor %}}{end}"
    tokenizer.save_pretrained(str(folder))
    return folder


def trained(plan: Any, tokenizer: Any, scale: float = 0.3) -> Any:
    """The adapter's model after steps that mean nothing, saved in the output folder."""
    torch.manual_seed(1)
    model = plan.adapter.build(plan)
    for parameter in model.parameters():
        if parameter.requires_grad:
            torch.nn.init.normal_(parameter, std=scale)
    save_model(plan, model, tokenizer)
    return model


def texts(column: Any) -> list[str]:
    return [answer.text for answer in column.generations]


def test_another_model_is_asked_through_its_own_tokenizer_and_template(prepared: Any, other_model: Path) -> None:
    from transformers import AutoModelForCausalLM

    compare = [{"model": str(other_model)}, {"model": str(other_model), "shots": 2, "name": "shown"}]
    plan, data, tokenizer = prepared({"compare": compare, "metrics": METRICS, "batch_size": 5}, adapter="lora")
    columns = evaluate(plan, plan.adapter.build(plan), tokenizer, data, ("model",)).columns
    assert list(columns) == ["bigger", "shown"]
    facts = columns["bigger"].facts
    assert facts["prompt_sample"] == "[system] Answer with yes or no.[user] Is 100 even?[assistant] "
    assert facts["model"] == f"the model {other_model}"
    assert (facts["kind"], facts["label"]) == ("model", "bigger")
    assert columns["shown"].facts["prompt_sample"].count("[assistant]") == 3
    assert columns["shown"].facts["label"] == "shown (2 examples)"

    alone = AutoModelForCausalLM.from_pretrained(str(other_model)).eval()
    ids = tokenizer(facts["prompt_sample"], add_special_tokens=False, return_tensors="pt").input_ids
    with torch.no_grad():
        first = int(alone(input_ids=ids).logits[0, -1].argmax())
    assert texts(columns["bigger"])[0].startswith(tokenizer.decode([first]))


def test_a_chat_row_is_written_in_the_other_models_template(prepared: Any, tmp_path: Path, other_model: Path) -> None:
    rows = [
        {"messages": [{"role": "user", "content": f"hi {n}"}, {"role": "assistant", "content": "yes"}]}
        for n in range(3)
    ]
    path = tmp_path / "chats.jsonl"
    path.write_text("".join(f"{json.dumps(row)}\n" for row in rows))
    evaluation = {
        "datasets": [{"path": str(path), "type": "chat_template"}],
        "compare": [{"model": str(other_model)}, {"model": str(other_model), "form": "text", "name": "text"}],
    }
    plan, data, tokenizer = prepared(evaluation, chat_template="chatml", adapter="lora")
    assert data.test[0].prompt.startswith("<|im_start|>")
    columns = evaluate(plan, plan.adapter.build(plan), tokenizer, data, ("model",)).columns
    assert columns["bigger"].facts["prompt_sample"] == "[user] hi 0[assistant] "
    assert columns["text"].facts["prompt_sample"] == "[user] hi 0[assistant] ", "as that model would have been trained"


def test_a_merged_copy_answers_as_the_tuned_model(prepared: Any) -> None:
    plan, data, tokenizer = prepared({"compare": ["tuned", "merged"], "metrics": METRICS}, adapter="lora")
    model = trained(plan, tokenizer)
    columns = evaluate(plan, model, tokenizer, data, ("tuned", "merged")).columns
    assert texts(columns["merged"]) == texts(columns["tuned"])
    assert columns["merged"].metrics["perplexity"].scores == pytest.approx(
        columns["tuned"].metrics["perplexity"].scores, rel=1e-3
    )
    assert "adapter merged" in columns["merged"].facts["model"]
    assert model.peft_config, "the model in training keeps its adapter"


@pytest.mark.parametrize("adapter", ["lora", "full"])
def test_packed_copies_are_the_saved_model_in_fewer_bits(prepared: Any, adapter: str) -> None:
    compare = ["base", "tuned", {"tuned": {"load_in_8bit": True}}, {"merged": {"load_in_4bit": True}}]
    plan, data, tokenizer = prepared({"compare": compare, "metrics": METRICS}, adapter=adapter)
    model = trained(plan, tokenizer, 0.05 if adapter == "full" else 0.3)
    columns = evaluate(plan, model, tokenizer, data, ("tuned", "merged")).columns
    assert list(columns) == ["tuned", "tuned-8bit", "merged-4bit"]
    packed = columns["tuned-8bit"]
    assert packed.facts["quantisation"] == "8bit"
    assert packed.facts["label"] == "fine-tuned, 8 bits"
    assert columns["merged-4bit"].facts["quantisation"] == "4bit"
    whole = columns["tuned"].metrics["perplexity"].value
    assert packed.metrics["perplexity"].value != whole, "other weights, if only by rounding"
    assert packed.metrics["perplexity"].value == pytest.approx(whole, rel=0.2)


def test_the_saved_model_answers_as_the_one_in_training(prepared: Any) -> None:
    for adapter in ("lora", "full"):
        plan, data, tokenizer = prepared({"compare": ["tuned"], "metrics": METRICS}, adapter=adapter)
        model = trained(plan, tokenizer, 0.05)
        here = evaluate(plan, model, tokenizer, data, ("tuned",)).columns["tuned"]
        saved = Tuned("run", str(plan.output_dir))
        again = evaluate(plan, None, tokenizer, data, ("tuned",), saved=saved).columns["tuned"]
        assert texts(again) == texts(here)
        assert again.facts["model"] == f"as saved in {plan.output_dir}"


@pytest.mark.parametrize("lost", ["model.safetensors", "tokenizer.json"])
def test_a_model_that_cannot_be_loaded_is_told_with_its_place(prepared: Any, other_model: Path, lost: str) -> None:
    plan, data, tokenizer = prepared({"compare": ["base", {"model": str(other_model)}]}, adapter="full")
    kept = (other_model / lost).rename(other_model / "away")
    try:
        with pytest.raises(RecipeError) as caught:
            evaluate(plan, None, tokenizer, data, ("model",))
    finally:
        kept.rename(other_model / lost)
    (problem,) = caught.value.problems
    what = "the model" if lost == "model.safetensors" else "the tokenizer of"
    assert problem.message.startswith(f"the column 'bigger': {what} {str(other_model)!r} cannot be loaded: ")
    assert problem.key == ("evaluation", "compare", 1, "model")
    assert problem.help


def test_what_is_no_model_folder_cannot_be_packed(prepared: Any) -> None:
    plan, _, _ = prepared(adapter="lora")
    plan = replace(plan, adapter=replace(plan.adapter, name="own", load=lambda plan, folder: torch.nn.Linear(1, 1)))
    plan.output_dir.mkdir(parents=True, exist_ok=True)
    with pytest.raises(UserError, match=r"what the adapter 'own' saved .* cannot be loaded in fewer bits"):
        load_saved(plan, Tuned("run", str(plan.output_dir)), "4bit")


def test_latencies_of_one_model_are_measured_in_turn(prepared: Any) -> None:
    compare = ["base", {"prompted": {"shots": 2}}, "tuned"]
    plan, data, tokenizer = prepared({"compare": compare, "metrics": [{"type": "latency"}]}, adapter="lora")
    model = plan.adapter.build(plan)
    columns = evaluate(plan, model, tokenizer, data, ("base", "prompted", "tuned")).columns
    assert columns["base"].facts["latency_in_turn"] == ["base", "prompted"]
    assert columns["base"].facts["latency_measured"] == columns["prompted"].facts["latency_measured"]
    assert columns["tuned"].facts["latency_in_turn"] == []


# ---------------------------------------------------------------- prompts that do not fit


def test_examples_that_do_not_fit_are_left_out_and_counted(prepared: Any, monkeypatch: pytest.MonkeyPatch) -> None:
    compare = [{"prompted": {"shots": 5, "form": "text"}}]
    plan, data, tokenizer = prepared({"compare": compare, "metrics": METRICS[:1]}, adapter="full")
    model = plan.adapter.build(plan)
    model.config.max_position_embeddings = 350  # room for the question and two examples
    column = evaluate(plan, model, tokenizer, data, ("prompted",)).columns["prompted"]
    assert column.facts["shortened"] == len(data.test)
    assert column.facts["shown"] == 5
    assert column.facts["prompt_sample"].count("### Response:") == 3
    model.config.max_position_embeddings = 100  # not even for the question
    with pytest.raises(DataError, match="12 of 12 prompts of the column 'prompted' are too long"):
        evaluate(plan, model, tokenizer, data, ("prompted",))
