"""The models that answer the columns: the untouched base, the tuned one and its copies, and any other."""

from __future__ import annotations

import contextlib
import gc
import tempfile
from collections.abc import Iterator
from dataclasses import dataclass, replace
from pathlib import Path
from typing import TYPE_CHECKING, Any, Literal

from core.errors import Problem, RecipeError, UserError
from core.evaluation.greedy import innermost, is_sharded
from core.models.quantization import Quantized
from core.types import ColumnPlan, Plan

if TYPE_CHECKING:
    from core.types import Module

# keys that speak of the recipe's own base model and of no other
BASE_KEYS = (
    "revision_of_model",
    "model_type",
    "tokenizer_type",
    "tokenizer_config",
    "special_tokens",
    "tokens",
    "added_tokens_overrides",
    "chat_template",
    "chat_template_jinja",
    "chat_template_kwargs",
    "resize_token_embeddings_to_32x",
    "reinit_weights",
)


@dataclass(frozen=True)
class Tuned:
    """The tuned model on disk. kind: `run` (an output_dir), `adapter` (a folder of one), or `model` (whole, a folder or
    hub id, asked through its own tokenizer)."""

    kind: Literal["run", "adapter", "model"]
    address: str


def plan_for_model(plan: Plan, address: str) -> Plan:
    """`plan` with another base model in place of its own, and none of the keys that speak of that one."""
    recipe = plan.recipe
    values = {key: value for key, value in recipe.values.items() if key not in BASE_KEYS}
    defaults = {key: value for key, value in recipe.defaults.items() if key not in BASE_KEYS}
    return replace(
        plan,
        base_model=address,
        recipe=replace(recipe, values={**values, "base_model": address}, defaults=defaults),
    )


def packing_of(column: ColumnPlan) -> Quantized:
    """The bits that a column's model is held in: "4bit", "8bit" or None."""
    if column.options.get("load_in_4bit"):
        return "4bit"
    return "8bit" if column.options.get("load_in_8bit") else None


@contextlib.contextmanager
def untouched_base(plan: Plan, model: Module | None) -> Iterator[tuple[Module, str]]:
    """The untouched base, and how it was come by: `model` itself where its adapter can be switched off exactly."""
    view = plan.adapter.base_view(plan, model) if model is not None and plan.adapter.base_view else None
    if view is not None and model is not None:
        with view:
            yield model, "the training model before training, adapter switched off"
        return
    from core.models import load_untouched_base

    with _freed(_placed(load_untouched_base(plan), model)) as base:
        yield base, "the base, loaded apart"


@contextlib.contextmanager
def tuned_model(plan: Plan, column: ColumnPlan, model: Module | None, saved: Tuned) -> Iterator[tuple[Module, str]]:
    """What answers a column of the tuned model: `model` as trained, or (where that is None) as it was saved; merged, or
    held in fewer bits, where the column says so."""
    packing = packing_of(column)
    if column.kind == "merged":
        with _freed(_placed(_merged(plan, model, saved, packing), model)) as merged:
            held = f", then packed into {packing.removesuffix('bit')} bits" if packing else ""
            yield merged, f"the tuned model, adapter merged into the weights{held}"
    elif packing:
        with _freed(_placed(load_saved(plan, saved, packing), model)) as packed:
            yield packed, f"as saved, on weights held in {packing.removesuffix('bit')} bits"
    elif model is not None:
        yield model, "as trained, adapter not merged"
    else:
        with _freed(load_saved(plan, saved)) as loaded:
            yield loaded, f"as saved in {saved.address}" if saved.kind != "model" else f"the model {saved.address}"


@contextlib.contextmanager
def other_model(plan: Plan, column: ColumnPlan, model: Module | None) -> Iterator[tuple[Module, str]]:
    """Another model, loaded for its column alone. plan: that of `plan_for_model`."""
    from core.models import load_base

    with told_by_column(plan, column):
        loaded: Any = load_base(plan, quantized=packing_of(column), frozen=True)
    with _freed(_placed(loaded, model)) as other:
        yield other, f"the model {column.options['model']}"


@contextlib.contextmanager
def told_by_column(plan: Plan, column: ColumnPlan) -> Iterator[None]:
    """Within: where the model of `column` cannot be loaded, its place in the recipe is told (`RecipeError`).

    plan: that of `plan_for_model`, to which this model is a base model as the recipe's own is.
    """
    try:
        yield
    except UserError as error:
        if isinstance(error, RecipeError):
            raise
        base, named = f"base_model {plan.base_model!r}", f"the model {plan.base_model!r}"
        if column.kind != "model":
            raise UserError(error.message.replace(base, f"{named} that is scored", 1), help=error.help) from error
        message = f"the column {column.name!r}: {error.message.replace(base, named, 1)}"
        key = ("evaluation", "compare", plan.evaluation.columns.index(column), "model")
        raise RecipeError([Problem(message, key=key, at="value", help=error.help)]) from error


def load_saved(plan: Plan, saved: Tuned, packing: Quantized = None) -> Module:
    """The tuned model from its files. Raises `UserError` where they cannot be loaded."""
    from core.models import load_base

    folder = Path(saved.address)
    if saved.kind == "model":
        return load_base(plan_for_model(plan, saved.address), quantized=packing, frozen=packing is not None)
    if plan.adapter.load is not None and packing is None:
        return plan.adapter.load(plan, folder)
    whole = (folder / "config.json").is_file()
    # the adapter that trained the whole model has no use for an adapter's files that lie beside it
    if (folder / "adapter_config.json").is_file() and (plan.adapter.load is not None or not whole):
        return _adapter_on(load_base(plan, quantized=packing, frozen=True), folder)
    if not whole:
        raise UserError(
            f"what the adapter {plan.adapter.name!r} saved in {saved.address!r} cannot be loaded in fewer bits",
            help="leave load_in_4bit and load_in_8bit out of that column of evaluation.compare",
        )
    return load_base(plan_for_model(plan, saved.address), quantized=packing, frozen=packing is not None)


def _adapter_on(base: Any, folder: Path) -> Module:
    from peft import PeftModel

    from core.models import explained, quiet

    with explained("the adapter in", str(folder)), quiet():
        tuned: Module = PeftModel.from_pretrained(base, str(folder))
    return tuned


def _merged(plan: Plan, model: Module | None, saved: Tuned, packing: Quantized) -> Module:
    """A plain model with the adapter in its weights; a model that has no adapter is what it is."""
    from core.models import load_base, unwrapped

    whole = plan.adapter.merge is None or saved.kind == "model"
    if whole:
        return load_saved(plan, saved, packing)
    at_hand = model if model is not None and not is_sharded(model) else load_saved(plan, saved)
    merged: Any = plan.adapter.merge(plan, unwrapped(at_hand)) if plan.adapter.merge else None
    if merged is None:
        return load_saved(plan, saved, packing)
    if packing is None:
        plain: Module = merged
        return plain
    with tempfile.TemporaryDirectory(prefix="tunesmith-merged-") as name:
        _write_merged(plan, merged, Path(name))
        del merged
        gc.collect()
        packed: Module = load_base(plan_for_model(plan, name), quantized=packing, frozen=True)
        return packed


def _write_merged(plan: Plan, merged: Any, folder: Path) -> None:
    from core.models import quiet
    from core.models.tokenizer import read_tokenizer

    with quiet():
        merged.save_pretrained(str(folder))
        tokenizer, _ = read_tokenizer(plan)
        tokenizer.save_pretrained(str(folder))


def _placed(loaded: Module, beside: Module | None) -> Module:
    """On the device of the training model, where that is another one."""
    if beside is None:
        return loaded
    device = next(beside.parameters()).device
    return loaded if next(loaded.parameters()).device == device else loaded.to(device)


@contextlib.contextmanager
def _freed(model: Module) -> Iterator[Module]:
    """Within: the model; afterwards its memory is given back, if nobody else holds it."""
    import torch

    try:
        yield model
    finally:
        del model
        gc.collect()
        if torch.cuda.is_available():
            torch.cuda.empty_cache()


def model_facts(model: Module) -> dict[str, Any]:
    """Precision and quantisation, to be stated beside the figures."""
    inner = innermost(model)
    quantisation: Any = getattr(inner.config, "quantization_config", None)
    values = quantisation.to_dict() if hasattr(quantisation, "to_dict") else dict(quantisation or {})
    bits = "4bit" if values.get("load_in_4bit") else "8bit" if values.get("load_in_8bit") else None
    method = str(getattr(values.get("quant_method"), "value", values.get("quant_method") or "")) or None
    return {"dtype": str(inner.dtype).removeprefix("torch."), "quantisation": bits or method}
