from __future__ import annotations

import contextlib
import json
import random
from dataclasses import replace
from types import SimpleNamespace
from typing import Any

import numpy
import pytest
import torch

from core.data import encode_prompt
from core.errors import DataError, UserError
from core.evaluation import evaluate
from core.types import ColumnPlan, Evaluator
from tests.core.evaluation.making import exact, make_metric
from tests.core.evaluation.test_greedy import one_by_one

METRICS = [{"type": "accuracy"}, {"type": "perplexity"}, {"type": "latency"}]
COMPARE = ["base", {"prompted": {"shots": 2}}, "tuned"]


def test_the_columns_asked_for_are_scored_in_the_recipes_order(prepared: Any) -> None:
    plan, data, tokenizer = prepared({"compare": ["tuned", {"prompted": {"shots": 1}}, "base"]}, adapter="lora")
    model = plan.adapter.build(plan)
    assert list(evaluate(plan, model, tokenizer, data, ("base", "prompted")).columns) == ["prompted", "base"]
    assert list(evaluate(plan, model, tokenizer, data, ("tuned",)).columns) == ["tuned"]
    assert evaluate(plan, model, tokenizer, data, ("other",)).columns == {}


def test_nothing_held_back_means_nothing_scored(prepared: Any) -> None:
    plan, data, tokenizer = prepared()
    assert evaluate(plan, torch.nn.Linear(1, 1), tokenizer, replace(data, test=()), ("base",)).columns == {}


def test_a_column_says_how_it_came_about(prepared: Any) -> None:
    plan, data, tokenizer = prepared({"metrics": METRICS, "compare": COMPARE}, adapter="lora")
    model = plan.adapter.build(plan)
    columns = evaluate(plan, model, tokenizer, data, ("base", "prompted")).columns
    base, prompted = columns["base"], columns["prompted"]
    assert len(base.generations) == len(data.test) == 12
    assert base.facts["model"].endswith("adapter switched off")
    assert (base.facts["dtype"], base.facts["quantisation"]) == ("float32", None)
    assert base.facts["prompt_form"] == "as in training"
    assert base.facts["prompt_sample"] == data.test[0].prompt
    assert len(prompted.facts["shots"]) == 2
    assert base.facts["capped"] == sum(not answer.stopped for answer in base.generations)
    assert base.metrics["latency"].n == 2, "a sample alone is timed"
    assert base.metrics["perplexity"].n == 12
    timed = [score is not None for score in base.metrics["latency"].scores]
    assert timed == [score is not None for score in prompted.metrics["latency"].scores], "the same sample everywhere"
    json.dumps(dict(base.facts))


@pytest.mark.parametrize("metric", [{"type": "multiple_choice", "choices": ["yes", "no"]}, {"type": "perplexity"}])
def test_metrics_by_likelihood_alone_generate_nothing(
    prepared: Any, monkeypatch: pytest.MonkeyPatch, metric: dict[str, Any]
) -> None:
    from core.evaluation import asking

    def never(*args: Any, **options: Any) -> Any:
        pytest.fail("an answer was generated")

    plan, data, tokenizer = prepared({"metrics": [metric], "compare": ["base"]}, adapter="lora")
    model = plan.adapter.build(plan)
    monkeypatch.setattr(asking, "generate", never)
    column = evaluate(plan, model, tokenizer, data, ("base",)).columns["base"]
    assert column.metrics[metric["type"]].n == 12
    assert column.facts["decoding"] == "none, by likelihood"
    assert (column.facts["capped"], column.facts["tokens_per_answer"]) == (0, 0)
    texts = [answer.text for answer in column.generations]
    if metric["type"] == "perplexity":
        assert set(texts) == {""}
    else:
        right = [float(text == item.references[0]) for text, item in zip(texts, data.test, strict=True)]
        assert column.metrics["multiple_choice"].scores == right, "the choice stands for the answer"

    # as an attempt that broke off left it, and then with a metric that reads answers
    again = evaluate(plan, model, tokenizer, data, ("base",), reuse=True).columns["base"]
    assert again.generations == column.generations
    monkeypatch.undo()
    plan, data, tokenizer = prepared({"metrics": [metric, {"type": "accuracy"}], "compare": ["base"]}, adapter="lora")
    both = evaluate(plan, model, tokenizer, data, ("base",), reuse=True).columns["base"]
    assert both.facts["tokens_per_answer"] > 0
    assert both.metrics[metric["type"]].scores == column.metrics[metric["type"]].scores


def test_answers_are_those_of_generate_one_by_one(prepared: Any) -> None:
    plan, data, tokenizer = prepared({"compare": COMPARE, "max_new_tokens": 6}, adapter="full")
    model = plan.adapter.build(plan)
    columns = evaluate(plan, model, tokenizer, data, ("tuned",)).columns
    prompts = [encode_prompt(item.prompt, tokenizer) for item in data.test]
    stop = tokenizer.eos_token_id
    expected = [
        tokenizer.decode([token for token in answer if token != stop])
        for answer in one_by_one(model, prompts, stops={stop}, new=6)
    ]
    assert [answer.text for answer in columns["tuned"].generations] == expected


def test_the_base_column_is_the_base_even_after_the_adapter_has_moved(prepared: Any) -> None:
    plan, data, tokenizer = prepared({"compare": COMPARE, "metrics": METRICS[:2]}, adapter="lora")
    model = plan.adapter.build(plan)
    before = evaluate(plan, model, tokenizer, data, ("base",)).columns["base"]
    for name, parameter in model.named_parameters():
        if "lora_B" in name:
            torch.nn.init.normal_(parameter, std=0.5)
    after = evaluate(plan, model, tokenizer, data, ("base",)).columns["base"]
    tuned = evaluate(plan, model, tokenizer, data, ("tuned",)).columns["tuned"]
    assert after.metrics["perplexity"].scores == before.metrics["perplexity"].scores
    assert tuned.metrics["perplexity"].scores != before.metrics["perplexity"].scores


@pytest.mark.parametrize("view", [None, lambda plan, model: None])
def test_without_a_base_view_the_base_is_loaded_apart(prepared: Any, view: Any) -> None:
    plan, data, tokenizer = prepared({"compare": COMPARE, "metrics": METRICS[:2]}, adapter="lora")
    model = plan.adapter.build(plan)
    expected = evaluate(plan, model, tokenizer, data, ("base", "prompted")).columns
    plan = replace(plan, adapter=replace(plan.adapter, base_view=view))
    columns = evaluate(plan, model, tokenizer, data, ("base", "prompted")).columns
    assert columns["base"].facts["model"] == "the base, loaded apart"
    assert list(columns["base"].generations) == list(expected["base"].generations)
    assert columns["prompted"].metrics["perplexity"].scores == expected["prompted"].metrics["perplexity"].scores


def test_perplexity_is_that_of_the_loss_of_each_item(prepared: Any) -> None:
    from core.data import tokenize_example
    from core.types import Example, Segment

    plan, data, tokenizer = prepared({"metrics": METRICS[1:2], "compare": COMPARE, "batch_size": 5}, adapter="full")
    model = plan.adapter.build(plan).eval()
    result = evaluate(plan, model, tokenizer, data, ("tuned",)).columns["tuned"].metrics["perplexity"]
    for item, score in zip(data.test, result.scores, strict=True):
        row = tokenize_example(
            Example((Segment(item.prompt), Segment(item.references[0], trained=True, answer=True))), tokenizer
        )
        with torch.no_grad():
            loss = model(input_ids=torch.tensor([row.input_ids]), labels=torch.tensor([row.labels])).loss
        assert score == pytest.approx(float(loss.exp()), rel=1e-4)


def test_training_is_left_as_it_was(prepared: Any) -> None:
    plan, data, tokenizer = prepared({"metrics": METRICS, "compare": COMPARE}, adapter="lora")
    model = plan.adapter.build(plan).train()
    frozen = next(model.children()).eval()
    torch.manual_seed(5)
    random.seed(5)
    numpy.random.seed(5)
    expected = (torch.rand(()).item(), random.random(), numpy.random.rand())
    torch.manual_seed(5)
    random.seed(5)
    numpy.random.seed(5)
    gradients = [parameter.requires_grad for parameter in model.parameters()]
    evaluate(plan, model, tokenizer, data, ("base", "prompted", "tuned"))
    assert (torch.rand(()).item(), random.random(), numpy.random.rand()) == expected
    assert model.training
    assert not frozen.training
    assert [parameter.requires_grad for parameter in model.parameters()] == gradients


def test_losses_are_the_same_with_and_without_evaluation(prepared: Any) -> None:
    losses = []
    for scored in (False, True):
        plan, data, tokenizer = prepared(
            {"metrics": METRICS, "compare": COMPARE}, adapter="lora", lora_dropout=0.2, gradient_checkpointing=True
        )
        from core.processes import start_processes

        start_processes(plan)
        model = plan.adapter.build(plan)
        training = plan.trainer.prepare(plan, model, tokenizer, data)
        if scored:
            assert evaluate(plan, training.model, tokenizer, data, ("base", "prompted")).columns
        losses.append(list(training.run().losses))
    assert losses[0] == losses[1]


def test_only_the_first_items_are_scored_where_there_is_a_limit(prepared: Any) -> None:
    plan, data, tokenizer = prepared({"limit": 5, "compare": COMPARE}, adapter="full")
    model = plan.adapter.build(plan)
    assert len(evaluate(plan, model, tokenizer, data, ("tuned",)).columns["tuned"].generations) == 5


def test_a_prompt_beyond_the_context_is_refused_before_anything_is_generated(prepared: Any) -> None:
    compare = ["base", {"prompted": {"shots": 1, "instruction": "yes or no? " * 700}}]
    plan, data, tokenizer = prepared({"compare": compare}, adapter="full")
    model = plan.adapter.build(plan)
    calls: list[int] = []
    model.register_forward_hook(lambda *_: calls.append(1))
    with pytest.raises(DataError, match="12 of 12 prompts of the column 'prompted' are too long"):
        evaluate(plan, model, tokenizer, data, ("base", "prompted"))
    assert calls == []


def test_a_metric_that_fails_does_not_lose_the_answers(prepared: Any) -> None:
    def broken(prediction: str, item: Any, options: Any) -> dict[str, float]:
        raise KeyError("dose")

    plan, data, tokenizer = prepared({"compare": COMPARE}, adapter="full")
    metrics = (make_metric(Evaluator("accuracy", exact)), make_metric(Evaluator("dosage", broken)))
    plan = replace(plan, evaluation=replace(plan.evaluation, metrics=metrics))
    model = plan.adapter.build(plan).train()
    with pytest.raises(
        UserError, match=r"'dosage' failed on the item at .*test.jsonl:1, field 'dose': KeyError"
    ) as caught:
        evaluate(plan, model, tokenizer, data, ("tuned",))
    assert str(plan.output_dir / "answers") in (caught.value.help or "")
    (saved,) = (plan.output_dir / "answers").glob("tuned-*.scores.json")
    scores = json.loads(saved.read_text())
    assert scores["metrics"]["accuracy"]["n"] == 12, "the metrics before it are not lost"
    assert all("accuracy" in item["scores"] for item in scores["items"])
    assert "dosage" in scores["failed"]
    (path,) = (plan.output_dir / "answers").glob("tuned-*.jsonl")
    lines = [json.loads(line) for line in path.read_text().splitlines()]
    assert sorted(line["item"] for line in lines if "item" in line) == list(range(12))
    assert model.training


def test_a_view_that_is_entered_is_left(prepared: Any) -> None:
    plan, data, tokenizer = prepared({"compare": [*COMPARE]}, adapter="full")
    model, events = plan.adapter.build(plan), []

    @contextlib.contextmanager
    def view() -> Any:
        events.append("in")
        yield
        events.append("out")

    adapter = replace(plan.adapter, base_view=lambda plan, model: view())
    plan = replace(plan, adapter=adapter, evaluation=replace(plan.evaluation, columns=(ColumnPlan("base"),)))
    evaluate(plan, model, tokenizer, data, ("base",))
    assert events == ["in", "out"]


def test_quantisation_is_stated() -> None:
    from core.evaluation.answerers import model_facts

    class Config(SimpleNamespace):
        pass

    class Model(torch.nn.Module):
        config_class = Config
        config = Config(quantization_config={"quant_method": "bitsandbytes", "load_in_4bit": True})
        dtype = torch.bfloat16

    assert model_facts(Model()) == {"dtype": "bfloat16", "quantisation": "4bit"}


def test_a_tuned_prompt_beyond_the_context_is_refused_before_training(prepared: Any) -> None:
    plan, data, tokenizer = prepared({"compare": ["tuned"]}, adapter="full")
    model = plan.adapter.build(plan)
    data = replace(data, test=(replace(data.test[0], prompt="yes or no? " * 700), *data.test[1:]))
    with pytest.raises(DataError, match="1 of 12 prompts of the column 'tuned' are too long"):
        evaluate(plan, model, tokenizer, data, ("base", "prompted"))
