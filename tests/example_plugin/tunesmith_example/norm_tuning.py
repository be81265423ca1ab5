"""Adapter `norm_tuning`: train the gains of the normalisation layers, and nothing else."""

from contextlib import nullcontext

from core import Adapter, Problem, hookimpl, load_base


@hookimpl
def recipe_keys():
    return {
        "norm_tuning_match": {
            "type": "string",
            "minLength": 1,
            "default": "norm",
            "description": "The adapter norm_tuning trains the parameters whose name contains this.",
        }
    }


@hookimpl
def check_recipe(recipe):
    if recipe["adapter"] == "norm_tuning" and recipe["load_in_4bit"]:
        return [Problem("norm_tuning needs weights that are not quantised", key=("load_in_4bit",))]
    return []


def build(plan):
    model = load_base(plan)
    for name, parameter in model.named_parameters():
        parameter.requires_grad_(plan.recipe["norm_tuning_match"] in name)
    return model


def base_view(plan, model):
    return nullcontext()  # nothing is added to the model, so until training starts it is the base


@hookimpl
def adapters():
    return [Adapter("norm_tuning", build, base_view=base_view, description="Train normalisation gains only")]
