"""Prepared rows as JSON lines, for other programs."""

from __future__ import annotations

import json
import re
from collections.abc import Iterable, Iterator
from pathlib import Path
from typing import Any

from core.audit import CheckedExample
from core.whole_file import whole_file

PLACE = re.compile(r"(?::\d+| row \d+)$")


def dump_records(examples: Iterable[CheckedExample]) -> Iterator[dict[str, Any]]:
    """One record per example, in the order of the files: `file`, `row` (its number in the data set, from 1), `place`,
    `input_ids` and `labels` (before packing), and `kept`: whether it is trained on."""
    for example in examples:
        yield {
            "file": PLACE.sub("", example.place),
            "row": example.number,
            "place": example.place,
            "kept": example.kept,
            "input_ids": example.input_ids.tolist(),
            "labels": example.labels.tolist(),
        }


def write_dump(path: Path, examples: Iterable[CheckedExample]) -> int:
    """Write the records to `path`, whole or not at all; returns how many."""
    count = 0
    with whole_file(path) as file:
        for record in dump_records(examples):
            file.write(json.dumps(record, ensure_ascii=False) + "\n")
            count += 1
    return count
