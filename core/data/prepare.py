"""The data stage of a run: everything a recipe names, read, rendered, tokenised, parted and counted, or found prepared.

Rows stream through: what is held in memory is one chunk of them, and a few bytes for each.
"""

from __future__ import annotations

import atexit
import copy
import shutil
import tempfile
import uuid
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, replace
from functools import partial
from pathlib import Path
from typing import TYPE_CHECKING, Any

from core.audit import Audit, AuditReport, CheckedExample, DataFacts, audit_lines, refuse_errors
from core.console import say
from core.data.cache import CacheEntry, key_inputs, key_of, prepared_folder, read_entry, take_entry
from core.data.chat_templates import adopt_chat_template
from core.data.collect import Limits, collect, collect_items, read_items
from core.data.collected import Collected
from core.data.mix import weight_of
from core.data.prepared import Parted, Rows, load_part, part_rows, read_rows, rows_of, write_rows
from core.data.share import on_main_first
from core.data.store import Store, Stored
from core.data.stream import HeldOut, Stream
from core.data.summary import lines_about
from core.errors import DataError
from core.sharing.variables import hide
from core.types import Data, DatasetPlan, Item, Plan

if TYPE_CHECKING:
    from datasets import Dataset

    from core.types import Tokenizer

ITEM_STATS = ("path", "type", "rows", "bad_rows", "first_bad_rows")
FROM_CACHE = "from the cache"
LEAKAGE = "leakage"  # the one check that goes on behind the first rows of a stream
See = Callable[[str, Sequence[CheckedExample]], None]


@dataclass(frozen=True)
class Gathered:
    """All examples of a run, before anything is left out or parted. held_out: those that items are made of. streamed:
    how many rows of each training data set were looked at, at most; None for all."""

    training: Sequence[Collected]
    validation: Sequence[Collected]
    held_out: Sequence[Collected]
    limits: Limits
    streamed: int | None = None

    def facts(self, tokenizer: Tokenizer) -> DataFacts:
        """What data checks look at."""
        train, validation, test = (
            Stored([collected.store for collected in part]) for part in (self.training, self.validation, self.held_out)
        )
        return DataFacts(train, validation, test, tokenizer, self.limits.sequence_len)

    def rows(self) -> tuple[list[Rows], list[Rows]]:
        """Those of training and of validation."""
        return rows_of(self.training), rows_of(self.validation)


def prepare(plan: Plan, tokenizer: Tokenizer) -> Data:
    """All data of `plan`; on all ranks alike, the main process does the work. Says a table of counts and what the data
    checks found.

    Raises `DataError` for data that cannot be read or cannot teach; every bad row is counted.
    """
    adopt_chat_template(plan, tokenizer)
    divided: list[tuple[Parted, dict[str, Any]]] = []

    def work() -> CacheEntry:
        entry, *made = _entry(plan, tokenizer)
        divided.extend(made)
        return entry

    entry = on_main_first(work)
    train, val, stats = _opened(entry, plan, tokenizer, divided[0] if divided else None)
    items: list[Item] = []
    most = plan.evaluation.limit
    for dataset in plan.evaluation.datasets:
        left = None if most is None else most - len(items)
        items += read_items(dataset, tokenizer, limits_of(plan), first_index=len(items), most=left)
    return Data(
        train,
        val,
        tuple(items),
        stats,
        pad_token_id=_pad_token_id(tokenizer),
        stream=stream_of(plan, tokenizer, items, val) if plan.recipe["streaming"] else None,
    )


def stream_of(plan: Plan, tokenizer: Tokenizer, items: Sequence[Item] = (), val: Dataset | None = None) -> Stream:
    """The training rows of `plan`, to be read while training. items, val: what is held out of them."""
    recipe = plan.recipe
    buffer = int(recipe["streaming_multipack_buffer_size"])
    limits = replace(limits_of(plan), rows=buffer)
    seed = int(recipe["seed"] if recipe["seed"] is not None else 42)
    own = copy.deepcopy(tokenizer)  # two threads cannot use one at a time
    level = next((check.level for check in plan.checks if check.check.name == LEAKAGE), None)
    held_out = HeldOut.of(level, items, val) if level is not None else None
    shuffled = 0 if recipe["shuffle_merged_datasets"] is False else buffer
    return Stream(plan.datasets, own, limits, shuffled, seed, held_out)


def limits_of(plan: Plan) -> Limits:
    """What the recipe says of long and of bad rows."""
    recipe = plan.recipe
    skipped = recipe["max_bad_rows"] if recipe["on_bad_row"] == "skip" else None
    return Limits(int(recipe["sequence_len"] or 2048), recipe["excess_length_strategy"] or "drop", skipped)


def gather(plan: Plan, tokenizer: Tokenizer, folder: Path, see: See = lambda part, examples: None) -> Gathered:
    """Read, render and tokenise everything that `plan` names into files in `folder`. see(part, examples) is called with
    the examples of `train`, `validation` and `test`, some at a time.

    The tokenizer has to have the recipe's chat template already. Raises `DataError` for what cannot be used, all at
    once.
    """
    limits = limits_of(plan)
    most = int(plan.recipe["streaming_multipack_buffer_size"]) if plan.recipe["streaming"] else None
    refusals: list[DataError] = []

    def each(
        part: str, datasets: Sequence[DatasetPlan], work: Callable[..., Collected], limits: Limits = limits
    ) -> list[Collected]:
        done = []
        for number, dataset in enumerate(datasets):
            store = Store(folder, f"{part}-{number}", dataset)
            try:
                done.append(work(dataset, tokenizer, limits, store, partial(see, part)))
            except DataError as error:
                if all(error.message != other.message for other in refusals):
                    refusals.append(error)
        return done

    training = each("train", plan.datasets, collect, replace(limits, rows=most))
    validation = each("validation", plan.validation, collect)
    held_out = each("test", plan.evaluation.datasets, collect_items)
    _refuse_all(refusals)
    return Gathered(training, validation, held_out, limits, most)


def stats_of(gathered: Gathered, report: AuditReport) -> dict[str, Any]:
    """The counts per data set and the audit, JSON-ready."""
    return {
        "datasets": [collected.stats() for collected in gathered.training],
        "validation": [collected.stats() for collected in gathered.validation],
        "evaluation": [
            {**{key: collected.stats()[key] for key in ITEM_STATS}, "items": len(collected.store)}
            for collected in gathered.held_out
        ],
        "sequence_len": gathered.limits.sequence_len,
        "streamed": gathered.streamed,
        "audit": report.as_json(),
    }


def _entry(plan: Plan, tokenizer: Tokenizer) -> tuple[CacheEntry, tuple[Parted, dict[str, Any]]]:
    """The prepared rows of `plan`, found or made, and how they are divided, with what there is to say about it said."""
    inputs = key_inputs(plan, tokenizer)
    root = prepared_folder(plan.recipe["dataset_prepared_path"])
    key = key_of(inputs) if inputs is not None else f"once-{uuid.uuid4().hex}"
    audited: list[str] = []
    while True:
        audited.clear()
        entry, found = take_entry(root, key, partial(_build, plan, tokenizer, inputs, audited))
        try:
            parted, stats = _divided(entry, plan)
            break
        except FileNotFoundError:
            if not _cleared(entry):
                raise
    if inputs is None:
        # nobody can tell whether the same data would be met again
        atexit.register(shutil.rmtree, entry.folder, ignore_errors=True)
    for line in [*lines_about(stats, plan.recipe), *hide(entry.meta["audit_lines"] if found else audited, plan.recipe)]:
        say(line)
    if found:
        say(f"prepared before, in {entry.meta['seconds']:,.1f} s: read from {entry.folder}")
    return entry, (parted, stats)


def _build(
    plan: Plan, tokenizer: Tokenizer, inputs: Mapping[str, Any] | None, audited: list[str], folder: Path
) -> dict[str, Any]:
    """Prepare the rows of `plan` into `folder`; returns what is kept beside the files, JSON-ready. audited: gets what
    the audit says."""
    recipe = plan.recipe
    with tempfile.TemporaryDirectory(prefix=".texts-", dir=folder) as texts:
        held_out = bool(plan.validation or plan.evaluation.datasets)
        checks = Audit(plan.checks, tokenizer, limits_of(plan).sequence_len, held_out=held_out)
        gathered = gather(plan, tokenizer, Path(texts), checks.see)
        refuse_nothing(gathered)
        report = checks.report(gathered.facts(tokenizer))
        stats = stats_of(gathered, report)
        audited += audit_lines(report)
        if report.errors:
            for line in [*lines_about(stats, recipe), *hide(audited, recipe)]:
                say(line)
        again = audit_lines(report, speed=FROM_CACHE)
        refuse_errors(report, recipe)
        rows = {
            "training": write_rows(folder, gathered.training),
            "validation": write_rows(folder, gathered.validation),
        }
    return {"recipe": str(recipe.path), "inputs": inputs, "stats": stats, "rows": rows, "audit_lines": again}


def _opened(
    entry: CacheEntry, plan: Plan, tokenizer: Tokenizer, divided: tuple[Parted, dict[str, Any]] | None
) -> tuple[Dataset, Dataset | None, dict[str, Any]]:
    """The rows to train on and to validate with, and the counts; made anew where the cache is cleared just now. Once
    they are open, clearing does them no harm."""
    while True:
        try:
            parted, stats = divided or _divided(entry, plan)
            train, val = load_part(entry, parted.train), load_part(entry, parted.val)
        except FileNotFoundError:
            if not _cleared(entry):
                raise
            entry, divided = _entry(plan, tokenizer)
            continue
        assert train is not None
        return train, val, stats


def _cleared(entry: CacheEntry) -> bool:
    """Whether an entry that was there has gone since, as a whole."""
    if read_entry(entry.folder) is not None:
        return False
    say("the prepared data was cleared meanwhile: it is made anew")
    return True


def _divided(entry: CacheEntry, plan: Plan) -> tuple[Parted, dict[str, Any]]:
    return divide(read_rows(entry, "training"), read_rows(entry, "validation"), plan, entry.meta["stats"])


def divide(
    training: Sequence[Rows], validation: Sequence[Rows], plan: Plan, stats: Mapping[str, Any]
) -> tuple[Parted, dict[str, Any]]:
    """The rows parted, weighted and shuffled as `plan` says, and `stats` with how many are in each part.

    Raises `DataError` where that cannot be done.
    """
    parted = part_rows(training, validation, plan)
    each = zip(stats["datasets"], plan.datasets, parted.passes, strict=True)
    datasets = [
        {**entry, "weight": weight_of(dataset.options), "trained_on": trained_on, "in_one_pass": in_one_pass}
        for entry, dataset, (trained_on, in_one_pass) in each
    ]
    return parted, {**stats, "datasets": datasets, **parted.totals()}


def _refuse_all(refusals: list[DataError]) -> None:
    if len(refusals) == 1:
        raise refusals[0]
    if refusals:
        helps = list(dict.fromkeys(error.help for error in refusals if error.help))
        raise DataError("\n".join(error.message for error in refusals), help="\n  ".join(helps) or None)


def refuse_nothing(gathered: Gathered) -> None:
    """Raise if no example is left to train on, with the reasons."""
    training, limits = gathered.training, gathered.limits
    if any(collected.counts["kept"] for collected in training):
        return
    count = sum(len(collected.store) for collected in training)
    long = sum(collected.counts["dropped_too_long"] for collected in training)
    empty = sum(collected.counts["nothing_to_train"] for collected in training)
    reasons, help = [], []
    if long:
        shortest = min(min(collected.store.lengths) for collected in training if len(collected.store))
        reasons.append(
            f"{long:,} are longer than sequence_len {limits.sequence_len} (the shortest has {shortest:,} tokens)"
        )
        help.append("raise sequence_len, or set excess_length_strategy: truncate")
    if empty:
        reasons.append(f"{empty:,} have no token that is trained")
        help.append("check roles_to_train, train_on_inputs and the labels of the rows")
    found = f"of {count:,} examples {' and '.join(reasons)}" if reasons else "there is no example"
    raise DataError(f"nothing left to train on: {found}", help="; ".join(help) or "add data")


def _pad_token_id(tokenizer: Tokenizer) -> int:
    for token in (tokenizer.pad_token_id, tokenizer.eos_token_id):
        if token is not None:
            return int(token)
    return 0
