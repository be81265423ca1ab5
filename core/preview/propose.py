"""Looks into a bare data file and proposes the recipe lines that read it; it never decides."""

from __future__ import annotations

import json
from collections import Counter
from collections.abc import Iterator, Mapping, Sequence
from itertools import islice
from pathlib import Path
from typing import Any

from core.data.columns import proposal, propose
from core.data.files import SourceRow
from core.data.formats import describe
from core.data.sources import read_rows, shown
from core.errors import DataError
from core.types import DatasetFormat, DatasetPlan

LOOKED_AT = 1_000
SHOWN_CHARACTERS = 70
PREFERENCE = ("chosen", "rejected")


def propose_recipe(path: Path | str) -> list[str]:
    """What `path`, an address if it is text, holds and the lines of `datasets` that fit, as lines to print. Raises
    `DataError` if it cannot be read, or holds no row that can be used."""
    rows = list(islice(_rows(path), LOOKED_AT))
    good = [row for row in rows if row.problem is None]
    if not good:
        help = rows[0].help or "every row has to be an object with fields"
        raise DataError(f"{rows[0].place}: {rows[0].problem}", help=help)
    fields = Counter(str(field) for row in good for field in row.values)
    if not fields:
        raise DataError(f"{good[0].place}: the rows have no fields", help="every row has to be an object with fields")
    at_most = "the first " if len(rows) == LOOKED_AT else ""
    name = str(path) if isinstance(path, Path) else shown(path)
    lines = [f"{name}: {at_most}{len(rows):,} row{'s' * (len(rows) != 1)}"]
    if len(good) < len(rows):
        bad = next(row for row in rows if row.problem)
        lines.append(f"  {len(rows) - len(good):,} cannot be used, first {bad.place}: {bad.problem}")
    width = max(map(len, fields))
    for field, count in fields.items():
        value = next(row.values[field] for row in good if field in row.values)
        missing = f"  (in {count:,} of {len(good):,} rows)" if count < len(good) else ""
        lines.append(f"  {field:<{width}}  {_shown(value)}{missing}")
    secret = (
        ["the secrets of the address are masked here: write it in full, or bring them in as ${NAME}"]
        if name != str(path)
        else []
    )
    return [*lines, "", *_lines(name, good), *secret]


def _lines(path: str, good: list[SourceRow]) -> Iterator[str]:
    proposals = Counter(tuple((proposal(row.values) or {}).items()) for row in good)
    (likely, count), *others = proposals.most_common()
    if not likely:
        yield f"no format is plain to see: {propose(good[0].values)}"
        yield "`tunesmith plugins` lists the formats; type may also be a map of field_instruction, field_output, format"
        return
    yield "a recipe could read it with"
    yield "datasets:"
    yield f"  - path: {_as_yaml(path)}"
    plain = ("message_property_mappings",)
    yield from (f"    {key}: {value if key in plain else _as_yaml(value)}" for key, value in likely)
    yield ""
    if dict(likely)["type"] == "alpaca":
        yield from _no_texts(dict(likely), good)
    if others:
        yield f"this fits {count:,} of the {len(good):,} rows; the others look different: see whether they belong here"
    if all(name in good[0].values for name in PREFERENCE):
        yield "the rows also hold chosen and rejected answers; these lines do not use them"
    yield "this is a proposal: put it into a recipe, and look at the result with `tunesmith data RECIPE`"


def _no_texts(lines: Mapping[str, str], good: Sequence[SourceRow]) -> Iterator[str]:
    """What has to be written as text before these lines can read it."""
    for name in ("instruction", "input", "output"):
        field = lines.get(f"field_{name}", name)
        found = [row.values[field] for row in good if field in row.values]
        odd = [value for value in found if not isinstance(value, str) and (value is not None or name != "input")]
        if odd:
            rows = f"{len(odd):,} of {len(found):,} rows hold" if len(found) > 1 else "the row holds"
            yield f"{rows} no text in {field!r} but {describe(odd[0])}: write it as text first"


def _rows(path: Path | str) -> Iterator[SourceRow]:
    nothing = DatasetFormat("", lambda row, options, tokenizer: [])
    place = str(path.absolute()) if isinstance(path, Path) else path
    return read_rows(DatasetPlan(place, nothing, {}, ("datasets", 0)))


def _shown(value: Any) -> str:
    plain = value is None or isinstance(value, bool | int | float)
    told = describe(value) if plain else value if isinstance(value, str) else f"{describe(value)}: {value}"
    text = " ".join(told.split())
    return text if len(text) <= SHOWN_CHARACTERS else text[: SHOWN_CHARACTERS - 1] + "…"


def _as_yaml(text: str) -> str:
    """`text` as a value of a recipe: in quotes where YAML would read it as something else."""
    import yaml

    try:
        plain = yaml.safe_load(f"[{text}]") == [text] and yaml.safe_load(f"a: {text}") == {"a": text}
    except yaml.YAMLError:
        plain = False
    return text if plain else json.dumps(text, ensure_ascii=False)
