"""What is wrong with how a recipe streams its training data, across keys."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from typing import Any

from core.errors import Problem
from core.host import Host
from core.recipe import Recipe

BUFFER = "streaming_multipack_buffer_size"


def streaming_problems(recipe: Recipe, host: Host) -> Iterator[Problem]:
    """Problems around `streaming`; every key is valid by itself already."""
    if not recipe["streaming"]:
        if recipe.values.get(BUFFER) is not None and (BUFFER,) in recipe.positions:
            help = "set streaming: true, or remove the key"
            yield Problem(f"{BUFFER!r} has no effect without streaming", key=(BUFFER,), severity="warning", help=help)
        return
    if not recipe["max_steps"]:
        message = "streaming needs max_steps: how many rows there are is not known before they are read"
        help = "set max_steps to the number of optimizer steps to train"
        yield Problem(message, key=("streaming",), help=help)
    if recipe["val_set_size"]:
        message = "val_set_size cannot be held back from rows that are read while training"
        yield Problem(message, key=("val_set_size",), help="list validation rows under test_datasets")
    trainer = host.trainers.get(recipe["trainer"] or "sft")
    if trainer is not None and not trainer.streams:
        named = [name for name, other in host.trainers.items() if other.streams]
        message = f"trainer {trainer.name!r} cannot stream its training rows"
        yield Problem(message, key=("streaming",), help=f"use trainer {' or '.join(named)}, or take streaming out")
    for key, reason in (
        ("group_by_length", "rows come as they are read"),
        ("dataloader_num_workers", "the main process reads, one step ahead"),
    ):
        if recipe[key]:
            yield Problem(f"{key!r} has no effect with streaming: {reason}", key=(key,), severity="warning")
    yield from _of_entries(recipe)


def _of_entries(recipe: Recipe) -> Iterator[Problem]:
    entries: list[Mapping[str, Any]] = recipe["datasets"] or []
    for index, entry in enumerate(entries):
        weight = entry.get("weight")
        if weight not in (None, 1) and (recipe["shuffle_merged_datasets"] is False or len(entries) == 1):
            in_turn = "shuffle_merged_datasets: false reads them in turn"
            reason = "there is one data set" if len(entries) == 1 else in_turn
            message = f"'weight' has no effect with streaming: {reason}"
            yield Problem(message, key=("datasets", index, "weight"), severity="warning", help="remove the key")
        part = str(entry.get("split") or "").partition("[")[2]
        if "%" in part or "-" in part or entry.get("shards"):
            key = "shards" if entry.get("shards") else "split"
            message = f"{key!r} asks how many rows there are: all are read once to count them, in every pass"
            help = "name files with data_files, or count rows from the start: train[1000:2000]"
            yield Problem(message, key=("datasets", index, key), severity="warning", help=help)
