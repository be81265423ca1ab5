"""The data stage of a run: everything a recipe names, read, rendered, tokenised, parted and counted."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from functools import partial
from typing import TYPE_CHECKING, Any

from core.audit import AuditReport, CheckedExample, DataFacts, audit, audit_lines, refuse_errors
from core.console import say
from core.data.chat_templates import adopt_chat_template
from core.data.collect import Collected, Limits, collect, collect_items
from core.data.share import on_main_first
from core.data.split import shuffled, split
from core.data.summary import lines_about
from core.data.tokenise import IGNORED
from core.errors import DataError
from core.types import Data, DatasetPlan, Item, Plan

if TYPE_CHECKING:
    from datasets import Dataset

    from core.types import Tokenizer

ROWS_PER_CHUNK = 10_000
ITEM_STATS = ("path", "type", "rows", "bad_rows", "first_bad_rows")


@dataclass(frozen=True)
class Gathered:
    """All examples of a run, before anything is left out or parted. held_out: those that the `items` were made of."""

    training: Sequence[Collected]
    validation: Sequence[Collected]
    held_out: Sequence[Collected]
    items: Sequence[Item]
    limits: Limits

    def facts(self, tokenizer: Tokenizer) -> DataFacts:
        """What data checks look at."""
        train, validation, test = (
            [example for collected in part for example in collected.examples]
            for part in (self.training, self.validation, self.held_out)
        )
        return DataFacts(train, validation, test, tokenizer, self.limits.sequence_len)


def prepare(plan: Plan, tokenizer: Tokenizer) -> Data:
    """All data of `plan`; on all ranks alike, the main process does the work. Says a table of counts and what the data
    checks found.

    Raises `DataError` for data that cannot be read or cannot teach; every bad row is counted.
    """
    adopt_chat_template(plan, tokenizer)
    return on_main_first(plan, lambda: _prepare(plan, tokenizer))


def gather(plan: Plan, tokenizer: Tokenizer) -> Gathered:
    """Read, render and tokenise everything that `plan` names. Raises `DataError` for what cannot be used, all at once.

    The tokenizer has to have the recipe's chat template already.
    """
    recipe = plan.recipe
    skipped = recipe["max_bad_rows"] if recipe["on_bad_row"] == "skip" else None
    limits = Limits(int(recipe["sequence_len"] or 2048), recipe["excess_length_strategy"] or "drop", skipped)
    refusals: list[DataError] = []
    training = _each(plan.datasets, lambda dataset: collect(dataset, tokenizer, limits), refusals)
    validation = _each(plan.validation, lambda dataset: collect(dataset, tokenizer, limits), refusals)
    items: list[Item] = []
    held_out: list[Collected] = []
    for dataset in plan.evaluation.datasets:
        work = partial(collect_items, tokenizer=tokenizer, limits=limits, first_index=len(items))
        for made, collected in _each([dataset], work, refusals):
            items += made
            held_out.append(collected)
    _refuse_all(refusals)
    return Gathered(training, validation, held_out, items, limits)


def stats_of(gathered: Gathered, report: AuditReport) -> dict[str, Any]:
    """The counts per data set and the audit, JSON-ready."""
    return {
        "datasets": [collected.stats() for collected in gathered.training],
        "validation": [collected.stats() for collected in gathered.validation],
        "evaluation": [
            {**{key: collected.stats()[key] for key in ITEM_STATS}, "items": len(collected.examples)}
            for collected in gathered.held_out
        ],
        "sequence_len": gathered.limits.sequence_len,
        "audit": report.as_json(),
    }


def _prepare(plan: Plan, tokenizer: Tokenizer) -> Data:
    recipe = plan.recipe
    gathered = gather(plan, tokenizer)
    _refuse_nothing(gathered.training, gathered.limits)
    report = audit(plan.checks, gathered.facts(tokenizer))
    stats = stats_of(gathered, report)

    seed = recipe["seed"] if recipe["seed"] is not None else 42
    examples = [example for collected in gathered.training for example in collected.kept]
    train, held_out = examples, []
    if not gathered.validation and recipe["val_set_size"] and not report.errors:
        keys = [example.input_ids.tobytes() for example in examples]
        chosen, taken = split(keys, recipe["val_set_size"], seed)
        train, held_out = [examples[index] for index in chosen], [examples[index] for index in taken]
    elif gathered.validation:
        held_out = [example for collected in gathered.validation for example in collected.kept]
    stats |= {"train": _totals(train), "val": _totals(held_out) if held_out else None}
    for line in [*lines_about(stats, recipe), *audit_lines(report)]:
        say(line)
    refuse_errors(report)
    if recipe["shuffle_merged_datasets"] is not False:
        train = [train[index] for index in shuffled(len(train), seed)]
    return Data(
        _dataset(train),
        _dataset(held_out) if held_out else None,
        tuple(gathered.items[: plan.evaluation.limit]),
        stats,
        pad_token_id=_pad_token_id(tokenizer),
    )


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
    if any(collected.kept for collected in training):
        return
    lengths = [example.length for collected in training for example in collected.examples]
    long = sum(collected.counts["dropped_too_long"] for collected in training)
    empty = sum(collected.counts["nothing_to_train"] for collected in training)
    reasons, help = [], []
    if long:
        reasons.append(
            f"{long:,} are longer than sequence_len {limits.sequence_len} (the shortest has {min(lengths):,} tokens)"
        )
        help.append("raise sequence_len, or set excess_length_strategy: truncate")
    if empty:
        reasons.append(f"{empty:,} have no token that is trained")
        help.append("check roles_to_train, train_on_inputs and the labels of the rows")
    found = f"of {len(lengths):,} examples {' and '.join(reasons)}" if reasons else "there is no example"
    raise DataError(f"nothing left to train on: {found}", help="; ".join(help) or "add data")


def _dataset(examples: Sequence[CheckedExample]) -> Dataset:
    """An Arrow data set of the examples, in that order."""
    import pyarrow as pa
    from datasets import Dataset
    from datasets.table import InMemoryTable

    chunks = []
    for start in range(0, max(len(examples), 1), ROWS_PER_CHUNK):
        rows = examples[start : start + ROWS_PER_CHUNK]
        columns = {
            "input_ids": _list_array([row.input_ids for row in rows]),
            "labels": _list_array([row.labels for row in rows]),
            "place": pa.array([row.place for row in rows], type=pa.string()),
        }
        chunks.append(pa.table(columns))
    return Dataset(InMemoryTable(pa.concat_tables(chunks)))


def _list_array(rows: Sequence[Any]) -> Any:
    import numpy as np
    import pyarrow as pa

    offsets = np.concatenate([[0], np.cumsum([len(row) for row in rows])]).astype(np.int32)
    values = np.concatenate(rows) if rows else np.empty(0, dtype=np.int32)
    return pa.ListArray.from_arrays(pa.array(offsets), pa.array(values, type=pa.int32()))


def _totals(examples: Sequence[CheckedExample]) -> dict[str, int]:
    import numpy as np

    tokens = sum(len(example.input_ids) for example in examples)
    trained = sum(int(np.count_nonzero(example.labels != IGNORED)) for example in examples)
    return {"examples": len(examples), "tokens": tokens, "trained_tokens": trained}


def _pad_token_id(tokenizer: Tokenizer) -> int:
    for token in (tokenizer.pad_token_id, tokenizer.eos_token_id):
        if token is not None:
            return int(token)
    return 0
