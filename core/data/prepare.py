"""The data stage of a run: everything a recipe names, read, rendered, tokenised, parted and counted."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from functools import partial
from typing import TYPE_CHECKING, Any

from core.console import say
from core.data.chat_templates import adopt_chat_template
from core.data.collect import Collected, Limits, collect, collect_items, fingerprint
from core.data.share import on_main_first
from core.data.sources import shown
from core.data.split import shuffled, split
from core.data.summary import lines_about
from core.errors import DataError
from core.types import Data, DatasetPlan, Item, Plan

if TYPE_CHECKING:
    from datasets import Dataset

    from core.types import Tokenizer

SHOWN_OVERLAPS = 5
ROWS_PER_CHUNK = 10_000


def prepare(plan: Plan, tokenizer: Tokenizer) -> Data:
    """All data of `plan`; on all ranks alike, the main process does the work. Says a table of counts.

    Raises `DataError` for data that cannot be read or cannot teach; every bad row is counted.
    """
    adopt_chat_template(plan, tokenizer)
    data = on_main_first(plan, lambda: _prepare(plan, tokenizer))
    for line in lines_about(data.stats, plan.recipe):
        say(line)
    return data


def _prepare(plan: Plan, tokenizer: Tokenizer) -> Data:
    recipe = plan.recipe
    limits = Limits(int(recipe["sequence_len"] or 2048), recipe["excess_length_strategy"] or "drop")
    refusals: list[DataError] = []
    training = _each(plan.datasets, lambda dataset: collect(dataset, tokenizer, limits), refusals)
    validation = _each(plan.validation, lambda dataset: collect(dataset, tokenizer, limits), refusals)
    items: list[Item] = []
    evaluation = []
    for dataset in plan.evaluation.datasets:
        found = _each([dataset], partial(collect_items, tokenizer=tokenizer, first_index=len(items)), refusals)
        evaluation.append({"path": shown(dataset.path), "type": dataset.format.name, "items": sum(map(len, found))})
        items += [item for made in found for item in made]
    _refuse_all(refusals)
    _refuse_nothing(training, limits)
    _refuse_overlap(training, items)

    seed = recipe["seed"] if recipe["seed"] is not None else 42
    keys = [ids.tobytes() for collected in training for ids in collected.input_ids]
    chosen, held_out = list(range(len(keys))), None
    if not validation and recipe["val_set_size"]:
        chosen, held_out = split(keys, recipe["val_set_size"], seed)
    if recipe["shuffle_merged_datasets"] is not False:
        chosen = [chosen[index] for index in shuffled(len(chosen), seed)]
    train = _dataset(training, chosen)
    val = _dataset(training, held_out) if held_out else _dataset(validation) if validation else None
    stats = {
        "datasets": [collected.stats() for collected in training],
        "validation": [collected.stats() for collected in validation],
        "evaluation": evaluation,
        "train": _totals(train),
        "val": _totals(val) if val is not None else None,
        "validation_overlap": len(_common(training, validation)),
        "sequence_len": limits.sequence_len,
    }
    return Data(train, val, tuple(items[: plan.evaluation.limit]), stats, pad_token_id=_pad_token_id(tokenizer))


def _each(datasets: Sequence[DatasetPlan], work: Callable[[DatasetPlan], Any], refusals: list[DataError]) -> list[Any]:
    """`work` of each data set; what cannot be used is added to `refusals`, so that all of it is shown at once."""
    done = []
    for dataset in datasets:
        try:
            done.append(work(dataset))
        except DataError as error:
            if all(error.message != other.message for other in refusals):
                refusals.append(error)
    return done


def _refuse_all(refusals: list[DataError]) -> None:
    if len(refusals) == 1:
        raise refusals[0]
    if refusals:
        helps = list(dict.fromkeys(error.help for error in refusals if error.help))
        raise DataError("\n".join(error.message for error in refusals), help="\n  ".join(helps) or None)


def _refuse_nothing(training: Sequence[Collected], limits: Limits) -> None:
    """Raise if no example is left to train on, with the reasons."""
    if any(collected.input_ids for collected in training):
        return
    total = sum(len(collected.lengths) for collected in training)
    long = sum(collected.counts["dropped_too_long"] for collected in training)
    empty = sum(collected.counts["nothing_to_train"] for collected in training)
    reasons, help = [], []
    if long:
        shortest = min(min(collected.lengths) for collected in training if collected.lengths)
        reasons.append(
            f"{long:,} are longer than sequence_len {limits.sequence_len} (the shortest has {shortest:,} tokens)"
        )
        help.append("raise sequence_len, or set excess_length_strategy: truncate")
    if empty:
        reasons.append(f"{empty:,} have no token that is trained")
        help.append("check roles_to_train, train_on_inputs and the labels of the rows")
    raise DataError(f"nothing left to train on: of {total:,} examples {' and '.join(reasons)}", help="; ".join(help))


def _refuse_overlap(training: Sequence[Collected], items: Sequence[Item]) -> None:
    """Raise if an evaluation item, prompt and answer alike, is among the training examples."""
    seen = [
        (item.place, place)
        for item in items
        for collected in training
        if (place := collected.answers.get(fingerprint(item.prompt, item.references[0])))
    ]
    if seen:
        shown = "".join(f"\n  {held_out} is also {place}" for held_out, place in seen[:SHOWN_OVERLAPS])
        more = f"\n  ... and {len(seen) - SHOWN_OVERLAPS:,} more" if len(seen) > SHOWN_OVERLAPS else ""
        raise DataError(
            f"{len(seen):,} of {len(items):,} evaluation items are in the training data too, "
            f"so their score would mean nothing{shown}{more}",
            help="take them out of one of the two, or split the data again",
        )


def _common(training: Sequence[Collected], validation: Sequence[Collected]) -> list[bytes]:
    """The fingerprints of the validation examples that are training examples too."""
    return [key for held_out in validation for key in held_out.answers if any(key in part.answers for part in training)]


def _dataset(collected: Sequence[Collected], chosen: Sequence[int] | None = None) -> Dataset:
    """An Arrow data set of the `chosen` examples (default: all), in that order."""
    import pyarrow as pa
    from datasets import Dataset
    from datasets.table import InMemoryTable

    ids = [row for part in collected for row in part.input_ids]
    labels = [row for part in collected for row in part.labels]
    places = [place for part in collected for place in part.places]
    order = range(len(ids)) if chosen is None else chosen
    chunks = []
    for start in range(0, max(len(order), 1), ROWS_PER_CHUNK):
        rows = order[start : start + ROWS_PER_CHUNK]
        columns = {
            "input_ids": _list_array([ids[row] for row in rows]),
            "labels": _list_array([labels[row] for row in rows]),
            "place": pa.array([places[row] for row in rows], type=pa.string()),
        }
        chunks.append(pa.table(columns))
    return Dataset(InMemoryTable(pa.concat_tables(chunks)))


def _list_array(rows: Sequence[Any]) -> Any:
    import numpy as np
    import pyarrow as pa

    offsets = np.concatenate([[0], np.cumsum([len(row) for row in rows])]).astype(np.int32)
    values = np.concatenate(rows) if rows else np.empty(0, dtype=np.int32)
    return pa.ListArray.from_arrays(pa.array(offsets), pa.array(values, type=pa.int32()))


def _totals(data: Dataset) -> dict[str, int]:
    import numpy as np
    import pyarrow.compute as pc

    labels = pc.list_flatten(data.data.column("labels")).to_numpy()
    return {"examples": len(data), "tokens": len(labels), "trained_tokens": int(np.count_nonzero(labels != -100))}


def _pad_token_id(tokenizer: Tokenizer) -> int:
    for token in (tokenizer.pad_token_id, tokenizer.eos_token_id):
        if token is not None:
            return int(token)
    return 0
