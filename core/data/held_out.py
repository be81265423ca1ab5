"""The held-out items of a recipe alone, for scoring without training."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any

from core.audit import Finding, refuse_errors
from core.audit.report import AuditEntry, AuditReport, some_places
from core.console import say
from core.data.collect import read_items
from core.data.items import answer_span, prompt_end
from core.data.prepare import LEAKAGE, limits_of
from core.data.render import BadRows, render_rows
from core.data.sources import shown
from core.sharing.variables import hide
from core.types import Data, Item, Plan

if TYPE_CHECKING:
    from core.types import Tokenizer


def prepare_items(plan: Plan, tokenizer: Tokenizer, stats: Mapping[str, Any]) -> Data:
    """The held-out items of `plan`, and no training rows. stats: what is known of the data from elsewhere.

    The tokenizer has to have the recipe's chat template already. Raises `DataError` for rows that make no item.
    """
    from datasets import Dataset

    items: list[Item] = []
    most = plan.evaluation.limit
    for dataset in plan.evaluation.datasets:
        left = None if most is None else most - len(items)
        items += read_items(dataset, tokenizer, limits_of(plan), first_index=len(items), most=left)
    empty = Dataset.from_dict({"input_ids": [], "labels": [], "place": []})
    return Data(empty, None, tuple(items), stats, pad_token_id=int(tokenizer.pad_token_id or 0))


def refuse_trained_on(plan: Plan, items: Sequence[Item], tokenizer: Tokenizer) -> None:
    """Raise `DataError` where items are in the training data, prompt and answer alike, as the data check `leakage` does
    before a training; its level in the recipe counts.

    Training data that is not at hand in files is named and passed over. Rows parted for validation cannot be told from
    those trained on: with `val_set_size` it is a warning.
    """
    level = next((check.level for check in plan.checks if check.check.name == LEAKAGE), None)
    if level is None:
        return
    places = {(item.prompt, reference): item.place for item in items for reference in item.references}
    found: dict[str, str] = {}
    for dataset in plan.datasets:
        if not Path(dataset.path).exists() or dataset.options.get("streaming"):
            say(f"warning: the training data {shown(dataset.path)} is not at hand: no held-out item is looked up in it")
            continue
        # rows that cannot be used were told when they were trained on
        for _, row, examples in render_rows(dataset, tokenizer, BadRows(dataset)):
            for example in examples:
                start, end = answer_span(example.segments)
                prompt, answer = (
                    "".join(segment.text for segment in part)
                    for part in (example.segments[: prompt_end(example.segments, start)], example.segments[start:end])
                )
                if answer and (held_out := places.get((prompt, answer))):
                    found.setdefault(held_out, row.place)
    if not found:
        return
    finding = Finding(
        f"{len(found):,} of {len(items):,} evaluation items are in the training data too, so their score would mean "
        "nothing",
        list(found),
        help="take them out of the held-out data",
        details=[f"{place} is also {trained}" for place, trained in found.items()],
    )
    if level == "error" and not plan.recipe["val_set_size"]:
        refuse_errors(AuditReport([AuditEntry(LEAKAGE, level, finding)]), plan.recipe)
    say(hide(f"warning: {LEAKAGE}: {finding.message} ({some_places(finding.places)}); {finding.help}", plan.recipe))
