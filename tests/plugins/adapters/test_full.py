from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest

from core import RecipeError
from core.models import load_untouched_base, parameter_counts
from plugins.adapters import full
from tests.core.model_plans import make_model_plan


def test_every_parameter_trains(tiny_model: Path, tmp_path: Path) -> None:
    plan = make_model_plan(tmp_path, tiny_model)
    trained, total = parameter_counts(plan.adapter.build(plan))
    # embeddings 400 x 32 (tied), two layers of attention 3072, mlp 6144 and norms 64, a last norm of 32
    assert trained == total == 400 * 32 + 2 * (3072 + 6144 + 64) + 32


def test_before_training_the_model_is_the_base_bit_for_bit(tiny_model: Path, tmp_path: Path) -> None:
    import torch

    plan = make_model_plan(tmp_path, tiny_model)
    model, ids = plan.adapter.build(plan).eval(), torch.arange(5, 25).view(1, -1)
    view = full.base_view(plan, model)
    assert view is not None
    with view, torch.no_grad():
        assert torch.equal(model(ids).logits, load_untouched_base(plan)(ids).logits)


def test_with_resized_embeddings_the_base_is_loaded_apart(tiny_model: Path, tmp_path: Path) -> None:
    plan = make_model_plan(tmp_path, tiny_model, tokens=["<new>"])
    assert full.base_view(plan, plan.adapter.build(plan)) is None


@pytest.mark.parametrize(
    ("patterns", "trained"),
    [
        ([r"model\.layers\.1\..*_proj"], {"self_attn", "mlp"}),
        ([r".*norm"], {"norm"}),
        ([r"lm_head"], {"embed_tokens"}),  # tied, so it answers to both names
    ],
)
def test_unfrozen_parameters_train_alone(
    patterns: list[str], trained: set[str], tiny_model: Path, tmp_path: Path
) -> None:
    plan = make_model_plan(tmp_path, tiny_model, unfrozen_parameters=patterns)
    names = [name for name, parameter in plan.adapter.build(plan).named_parameters() if parameter.requires_grad]
    assert names
    assert all(any(part in name for part in trained) for name in names)


def test_a_pattern_that_matches_nothing_is_an_error_at_its_place(tiny_model: Path, tmp_path: Path) -> None:
    plan = make_model_plan(tmp_path, tiny_model, unfrozen_parameters=["lm_head", "nothing", "at all"])
    with pytest.raises(RecipeError) as caught:
        plan.adapter.build(plan)
    assert [problem.key for problem in caught.value.problems] == [
        ("unfrozen_parameters", 1),
        ("unfrozen_parameters", 2),
    ]


@pytest.mark.parametrize(
    ("values", "message", "advice"),
    [
        ({"load_in_4bit": True}, "load_in_4bit with full fine-tuning", "adapter: qlora"),
        ({"load_in_8bit": True}, "load_in_8bit with full fine-tuning", "adapter: lora"),
        ({"unfrozen_parameters": ["(broken"]}, "no regular expression", "escape"),
        ({"unfrozen_parameters": ["^embed$[:100]"]}, "range of rows", "whole parameters"),
    ],
)
def test_contradictions_are_found_by_the_check(
    values: dict[str, Any], message: str, advice: str, tmp_path: Path
) -> None:
    (problem,) = full.check_recipe(make_model_plan(tmp_path, "m", **values).recipe)
    assert message in problem.message
    assert advice in str(problem.help)
    assert problem.severity == "error"


def test_a_sound_recipe_has_no_problem(tmp_path: Path) -> None:
    assert full.check_recipe(make_model_plan(tmp_path, "m", unfrozen_parameters=["^lm_head.weight$"]).recipe) == []
    assert full.check_recipe(make_model_plan(tmp_path, "m", adapter="lora", load_in_8bit=True).recipe) == []
