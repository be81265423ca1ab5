"""Whether the model has a place for every token of the longest row."""

from __future__ import annotations

from typing import Any

from core import Data, Plan, Problem, RecipeError
from core.console import say
from core.packing import unwrapped

from .batches import row_lengths

SET_ASIDE = 8  # more than the places some tables hold before the first: two in OPT


def refuse_missing_places(plan: Plan, model: Any, data: Data) -> None:
    """Raise `RecipeError` where a row is longer than the model's table of positions; computed places get a warning.

    Rows that are streamed are not all known: `sequence_len` stands for the longest.
    """
    inner = unwrapped(model)
    places = getattr(inner.config.get_text_config(), "max_position_embeddings", None)
    if not isinstance(places, int) or places < 1:
        return
    lengths = [length for rows in (data.train, data.val) if rows is not None for length in row_lengths(rows)]
    longest = max(lengths, default=0)
    told = f"the longest row has {longest:,} tokens"
    if _has_table(inner, places):
        if data.stream is not None:
            longest = int(plan.recipe["sequence_len"])
            told = f"streamed rows may have {longest:,} tokens"
        if longest > places:
            message = f"{told}, and the model has places for {places:,} (max_position_embeddings)"
            help = f"set sequence_len: {places}; excess_length_strategy says what becomes of longer rows"
            raise RecipeError([Problem(message, key=("sequence_len",), at="value", help=help)])
    elif longest > places:
        say(
            f"warning: {told}, and the model's configuration names {places:,} places (max_position_embeddings): "
            f"it may not have learnt those behind; sequence_len: {places} leaves such rows out"
        )


def _has_table(model: Any, places: int) -> bool:
    """Whether positions are looked up in a table, which ends, rather than computed."""
    import torch

    tokens = model.get_input_embeddings()
    return any(
        isinstance(module, torch.nn.Embedding)
        and module is not tokens
        and places <= module.num_embeddings <= places + SET_ASIDE
        and any(part in name.rpartition(".")[2] for part in ("pos", "wpe"))
        for name, module in model.named_modules()
    )
