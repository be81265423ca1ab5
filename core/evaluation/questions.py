"""What each column is asked, made ready before any model answers: prompts as text and as token ids."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import TYPE_CHECKING, Any

from core.errors import UserError
from core.evaluation.answerers import Tuned, packing_of, plan_for_model, told_by_column
from core.evaluation.answers import key_of
from core.evaluation.generate import context_length, refuse_long_prompts
from core.evaluation.prompts import DEFAULT_SHOTS, Prompts, few_shot, zero_shot
from core.types import ColumnPlan, Data, DatasetPlan, Item, Plan

if TYPE_CHECKING:
    from core.types import Tokenizer

# what decides how the weights of the base are held and computed with
WEIGHT_KEYS = (
    "revision_of_model",
    "load_in_4bit",
    "load_in_8bit",
    "bnb_config_kwargs",
    "bf16",
    "fp16",
    "tf32",
    "attn_implementation",
    "reinit_weights",
    "seed",
)
LABELS = {"base": "base", "prompted": "base, prompted", "tuned": "fine-tuned", "merged": "fine-tuned, merged"}


@dataclass(frozen=True)
class Questions:
    """A column made ready: its prompts as text and as token ids, both in item order, and what it is asked through.

    plan: of the model that answers, its own for another model.
    """

    column: ColumnPlan
    plan: Plan
    tokenizer: Tokenizer
    prompts: Prompts
    ids: list[list[int]]

    @property
    def label(self) -> str:
        """What the column is called for people."""
        kind, packing = self.column.kind, packing_of(self.column)
        text = self.column.name if kind == "model" or "name" in self.column.options else LABELS.get(kind, kind)
        if self.prompts.count:
            near = "nearest " if self.column.options.get("choose") == "nearest" else ""
            text += f" ({self.prompts.count} {near}example{'' if self.prompts.count == 1 else 's'})"
        return f"{text}, {packing.removesuffix('bit')} bits" if packing and kind != "model" else text


def make_ready(
    plan: Plan,
    column: ColumnPlan,
    data: Data,
    items: Sequence[Item],
    tokenizer: Tokenizer,
    config: Any,
    saved: Tuned,
) -> Questions:
    """The prompts of `column`. tokenizer, config: of the recipe's base model.

    Raises `DataError` for prompts that do not fit the context, `UserError` where examples are asked for and none is
    there.
    """
    from core.data import encode_prompt

    own = column.options["model"] if column.kind == "model" else saved.address if saved.kind == "model" else None
    if own is not None and column.kind not in ("base", "prompted"):
        plan, tokenizer, config = _through(plan, column, own)
        items = _reworded(plan, items, tokenizer)
    context = context_length(config)
    room = None if context is None else context - plan.evaluation.max_new_tokens

    def fits(text: str) -> bool:
        return room is None or len(encode_prompt(text, tokenizer)) <= room

    asked = column.kind in ("prompted", "model")
    if asked:
        default = DEFAULT_SHOTS if column.kind == "prompted" else 0
        options = dict(column.options)
        prompts = few_shot(plan, options, data, items, tokenizer, column=column.name, default_shots=default, fits=fits)
    else:
        prompts = zero_shot(items)
    ids = [encode_prompt(text, tokenizer) for text in prompts.texts]
    refuse_long_prompts(column.name, items, ids, context, plan.evaluation.max_new_tokens, asked=asked)
    return Questions(column, plan, tokenizer, prompts, ids)


def _settling(plan: Plan) -> list[Any]:
    """What decides where answers are cut short, if they are."""
    metrics = plan.evaluation.metrics if plan.evaluation.stop_settled else ()
    return [[metric.evaluator.name, dict(metric.options)] for metric in metrics]


def _engine(plan: Plan) -> str | None:
    return plan.evaluation.generator.name if plan.evaluation.generator else None


def key_of_answers(questions: Questions, saved: Tuned) -> str:
    """What the answers follow from, as one hash; on the main process alone, which has read the weights' files."""
    from core.lock.inputs import base_model

    plan, column = questions.plan, questions.column
    weights: dict[str, Any] = {"base": base_model(plan), "address": _address(plan.base_model)}
    if column.kind in ("tuned", "merged"):
        weights["tuned"] = _stamp(saved)
    return key_of(
        weights=weights,
        held={key: plan.recipe[key] for key in WEIGHT_KEYS},
        adapter=plan.adapter.name,
        column=[column.kind, packing_of(column)],
        prompts=questions.ids,
        ends=plan.recipe["eot_tokens"],
        decoding=["greedy", plan.evaluation.max_new_tokens, plan.evaluation.batch_size, _settling(plan), _engine(plan)],
    )


def _address(text: str) -> str:
    """A hub id; a local model is known by the hashes of its files, wherever it lies."""
    return "" if Path(text).is_absolute() else text


def _stamp(saved: Tuned) -> Any:
    """What tells the tuned model apart from any other: the hash of each of its files, for an adapter of a plugin may
    save whatever it likes."""
    from core.lock.hashes import files_by_name
    from core.output import model_files

    folder = Path(saved.address)
    return files_by_name(model_files(folder)) if folder.is_dir() else saved.address


def _through(plan: Plan, column: ColumnPlan, address: str) -> tuple[Plan, Tokenizer, Any]:
    """The plan, tokenizer and config of another model."""
    from core.models import load_tokenizer
    from core.models.config import load_config

    own = plan_for_model(plan, address)
    with told_by_column(own, column):
        return own, load_tokenizer(own), load_config(own)


def _reworded(plan: Plan, items: Sequence[Item], tokenizer: Tokenizer) -> list[Item]:
    """The items with the prompts that their formats write for another tokenizer, in its own chat template."""
    from core.data import item_of
    from core.errors import RowError

    datasets = [_in_own_template(dataset, tokenizer) for dataset in plan.evaluation.datasets]
    found = []
    for item in items:
        for dataset in datasets if len(datasets) == 1 else _datasets_of(datasets, item):
            try:
                examples = dataset.format.render(item.row, dataset.options, tokenizer)
                made = [item_of(example, item.row, item.place, item.index, tokenizer) for example in examples]
            except (RowError, KeyError):
                continue
            same = [one for one in made if one.references == item.references] or made
            found.append(replace(item, prompt=same[0].prompt))
            break
        else:
            raise UserError(
                f"the row at {item.place} cannot be written for the tokenizer of {plan.base_model!r}",
                help="leave the column of that model out of evaluation.compare",
            )
    return found


def _datasets_of(datasets: Sequence[DatasetPlan], item: Item) -> list[DatasetPlan]:
    """The data sets that the item's row may have come from, those whose file it names first."""
    return sorted(datasets, key=lambda dataset: Path(dataset.path).name not in item.place)


def _in_own_template(dataset: DatasetPlan, tokenizer: Tokenizer) -> DatasetPlan:
    if not tokenizer.chat_template or "chat_template" not in dataset.options:
        return dataset
    options = {
        key: value
        for key, value in dataset.options.items()
        if key not in ("chat_template_jinja", "chat_template_kwargs")
    }
    return replace(dataset, options={**options, "chat_template": "tokenizer_default"})
