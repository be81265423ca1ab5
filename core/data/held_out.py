"""The held-out items of a recipe alone, for scoring without training."""

from __future__ import annotations

from collections.abc import Mapping
from typing import TYPE_CHECKING, Any

from core.data.collect import read_items
from core.data.prepare import limits_of
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
