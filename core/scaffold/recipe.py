"""A new recipe: proposed from the data, with the schema beside it that an editor reads."""

from __future__ import annotations

import json
import os
import re
from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import TYPE_CHECKING

from core.check.names import did_you_mean
from core.check.paths import looks_local
from core.errors import DataError, UserError
from core.scaffold.files import filled
from core.scaffold.questions import Answers, Question

if TYPE_CHECKING:
    from core.host import Host

BASE_MODEL = "Qwen/Qwen2.5-0.5B-Instruct"
SCHEMA_FILE = "recipe.schema.json"
DATA_SUFFIXES = (".jsonl", ".json", ".csv", ".parquet")
LOOKED_AT = 100
EXAMPLE_DATA = "train.jsonl"
_EXAMPLE_ROWS = (
    ("Is this number even? Answer with yes or no.", "4", "yes"),
    ("Is this number even? Answer with yes or no.", "7", "no"),
    ("Name the capital of this country.", "France", "Paris"),
    ("Name the capital of this country.", "Japan", "Tokyo"),
)
_PLAIN = re.compile(r"[A-Za-z./~_][\w./@+-]*(:[\w./@+-]+)*")


def questions(host: Host) -> list[Question]:
    """What has to be known for a recipe."""

    def known(table: Mapping[str, object], kind: str, value: str) -> None:
        if value not in table:
            near = did_you_mean(value, list(table)) or ""
            raise UserError(f"unknown {kind} {value!r}", help=f"{near} there are: {', '.join(sorted(table))}".strip())

    return [
        Question("--base-model", "base model (hub id, folder, .gguf)", lambda answers: BASE_MODEL, _check_model),
        Question(
            "--adapter",
            f"adapter ({', '.join(sorted(host.adapters))})",
            lambda answers: "lora",
            lambda value, answers: known(host.adapters, "adapter", value),
        ),
        Question("--data", "training data (file, folder or hub id)", lambda answers: _data_here(), _check_data),
        Question(
            "--type",
            "format of its rows",
            lambda answers: _entry(answers["data"]).get("type"),
            lambda value, answers: known(host.formats, "dataset format", value),
        ),
        Question("--test-data", "held-out data for the verdict (none: -)", _test_data_beside, _check_data),
        Question("--output", "the recipe's file", lambda answers: "recipe.yml", _check_output),
    ]


def recipe_files(answers: Answers, host: Host) -> dict[Path, str]:
    """The files of a new recipe: itself, the schema and example rows where there are none yet."""
    from core.check.export import schema_text

    output = Path(answers["output"])
    files = {output: recipe_text(answers)}
    if not (output.parent / SCHEMA_FILE).exists():
        files[output.parent / SCHEMA_FILE] = schema_text(host)
    if answers["data"] == EXAMPLE_DATA and not Path(EXAMPLE_DATA).exists():
        files[Path(EXAMPLE_DATA)] = example_rows()
    return files


def recipe_text(answers: Answers) -> str:
    """The recipe's text."""
    folder = Path(answers["output"]).absolute().parent
    entry = _entry(answers["data"])
    if entry.get("type") != answers["type"]:
        entry = {"type": answers["type"]}
    lines = [f"{key}: {value if value.startswith('{') else scalar(value)}" for key, value in entry.items()]
    test = answers["test_data"] if answers["test_data"] != "-" else ""
    return filled(
        "recipe.yml.j2",
        schema=SCHEMA_FILE,
        base_model=scalar(_from(folder, answers["base_model"])),
        adapter=answers["adapter"],
        data=scalar(_from(folder, answers["data"])),
        entry=lines,
        test_data=scalar(_from(folder, test)) if test else "",
        output_dir=scalar(f"./outputs/{Path(answers['output']).stem}"),
    )


def example_rows() -> str:
    """A few rows to replace by one's own."""
    rows = ({"instruction": asked, "input": about, "output": right} for asked, about, right in _EXAMPLE_ROWS)
    return "".join(json.dumps(row) + "\n" for row in rows)


def scalar(text: str) -> str:
    """`text` as YAML reads it back: plain where that is safe, else quoted."""
    from core.yaml_nodes import resolve_scalar

    plain = _PLAIN.fullmatch(text) and resolve_scalar(text) == text
    return text if plain else json.dumps(text, ensure_ascii=False)


def _from(folder: Path, text: str) -> str:
    """A local path as the recipe in `folder` writes it: relative for what lies below, else absolute."""
    if "://" in text or not Path(text).expanduser().exists():
        return text
    path = Path(text).expanduser().absolute()
    return f"./{path.relative_to(folder).as_posix()}" if path.is_relative_to(folder) else str(path)


def _data_here() -> str:
    """The first data file of the working folder, or the name under which example rows are written."""
    here = sorted(entry for entry in os.listdir() if entry.endswith(DATA_SUFFIXES) and entry != SCHEMA_FILE)
    training = [entry for entry in here if "train" in entry.lower()]
    return next(iter(training or [entry for entry in here if not _held_out(entry)]), EXAMPLE_DATA)


def _test_data_beside(answers: Answers) -> str:
    """The file beside the training data that is named as held out; `-` for none."""
    data = Path(answers["data"])
    if not data.is_file():
        return "-"
    beside = sorted(entry for entry in data.parent.iterdir() if entry.suffix == data.suffix and _held_out(entry.name))
    return next((str(entry) for entry in beside if entry.name != data.name), "-")


def _held_out(name: str) -> bool:
    return any(word in re.split(r"[^a-z]+", name.lower()) for word in ("test", "eval", "evaluation"))


def _entry(data: str) -> dict[str, str]:
    """The `type` and its options that fit the first rows of local data; nothing where none is plain to see."""
    from collections import Counter

    from core.data.columns import proposal

    found = Counter(tuple((proposal(row) or {}).items()) for row in _rows(data))
    return dict(found.most_common(1)[0][0]) if found else {}


def _rows(data: str) -> Iterator[Mapping[str, object]]:
    from itertools import islice

    from core.data.sources import read_rows
    from core.types import DatasetFormat, DatasetPlan

    if data == EXAMPLE_DATA and not Path(data).exists():
        yield from map(json.loads, example_rows().splitlines())
    elif Path(data).expanduser().exists():
        path = str(Path(data).expanduser().absolute())
        plan = DatasetPlan(path, DatasetFormat("", lambda row, options, tokenizer: []), {}, ("datasets", 0))
        yield from (row.values for row in islice(read_rows(plan), LOOKED_AT) if row.problem is None)


def _check_model(value: str, answers: Answers) -> None:
    from core.models.source import resolve_base_model

    resolve_base_model(value, Path())


def _check_data(value: str, answers: Answers) -> None:
    """Raise `UserError` for a file that is not there or cannot be read."""
    if value in ("-", EXAMPLE_DATA):
        return
    if looks_local(value) and not Path(value).expanduser().exists():
        raise UserError(f"no such file: {value!r}", help="name a file, a folder, or a data set of the hub")
    if Path(value).expanduser().exists() and not _entry(value):
        fields = ", ".join(map(str, next(iter(_rows(value)), {})))
        if not fields:
            raise DataError(f"{value!r} holds no row that can be read", help="rows are objects with named fields")


def _check_output(value: str, answers: Answers) -> None:
    if not value.endswith((".yml", ".yaml")):
        raise UserError(f"{value!r} does not end in .yml", help="name the recipe's file, such as recipe.yml")
    if Path(value).exists():
        raise UserError(f"{value!r} is there already", help="choose another --output")
