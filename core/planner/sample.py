"""The rows to plan with: the recipe's own where reading them is cheap, else rows of the length it allows."""

from __future__ import annotations

import io
from contextlib import redirect_stdout
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

from core.errors import UserError
from core.types import Data, EvaluationPlan, Plan

CHEAP_BYTES = 32 * 2**20  # data files up to which all rows are read and tokenised
ROWS = 256  # rows made up where they are not


@dataclass(frozen=True)
class Sample:
    """data: rows to plan with. counted: whether they are all of the run's. note: where they come from. tokens: how many
    the tokenizer has, if it was read."""

    data: Data
    counted: bool
    note: str
    tokens: int | None = None


def sample_of(plan: Plan) -> Sample:
    """The rows of `plan`'s data sets, if they are small local files and there is a tokenizer; else made-up ones.

    Raises `DataError` for files that cannot be used: the run would say the same.
    """
    size = _local_bytes(plan)
    if size is None or (size > CHEAP_BYTES and not plan.recipe["streaming"]):
        what = "the data is not in local files" if size is None else f"the data is {size / 2**20:,.0f} MiB"
        return made_up(plan, f"{what}: every row is taken to be as long as sequence_len")
    from core.data import prepare
    from core.models import load_tokenizer

    try:
        with redirect_stdout(io.StringIO()):
            tokenizer = load_tokenizer(plan)
    except UserError as error:
        return made_up(plan, f"no tokenizer ({error.message}): every row is taken to be as long as sequence_len")
    # what is held out, and what the data is checked for, takes no part in training
    light = replace(plan, checks=(), evaluation=EvaluationPlan(), validation=())
    with redirect_stdout(io.StringIO()):
        data = prepare(light, tokenizer)
    which = "the first" if data.stream is not None else "all"
    return Sample(data, True, f"lengths of {which} {len(data.train):,} rows", len(tokenizer))


def made_up(plan: Plan, note: str) -> Sample:
    """Rows of `sequence_len` tokens, the last half of each trained; four to a bin where rows are packed."""
    from datasets import Dataset

    length = int(plan.recipe["sequence_len"] or 2048)
    if plan.recipe["sample_packing"]:
        length = max(2, length // 4)
    micro = plan.recipe["micro_batch_size"]
    count = max(ROWS, 8 * micro if isinstance(micro, int) else 0)
    rows = [list(range(number + 1, number + 1 + length)) for number in range(count)]  # no two begin alike
    half = length // 2
    labels = [[-100] * half + row[half:] for row in rows]
    columns: dict[str, Any] = {"input_ids": rows, "labels": labels}
    return Sample(Data(Dataset.from_dict(columns), None, (), {}), False, note)


def shortened_to(sample: Sample, plan: Plan) -> Sample:
    """The sample under the `sequence_len` of `plan`: made up anew, or without the rows that are longer."""
    if not sample.counted:
        return made_up(plan, sample.note)
    rows = sample.data.train["input_ids"]
    kept = [number for number, row in enumerate(rows) if len(row) <= plan.recipe["sequence_len"]]
    return replace(sample, data=replace(sample.data, train=sample.data.train.select(kept))) if kept else sample


def _local_bytes(plan: Plan) -> int | None:
    """Bytes of the training files; None where one is elsewhere."""
    total = 0
    for dataset in plan.datasets:
        path = Path(dataset.path)
        if not path.is_absolute() or not path.exists():
            return None
        files = [path] if path.is_file() else [file for file in path.rglob("*") if file.is_file()]
        total += sum(file.stat().st_size for file in files)
    return total
