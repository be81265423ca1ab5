"""Write docs/results.md from finished runs, so that no figure in it is typed by hand.

    python benchmarks/results.py RUN_DIR... [--busy NAME...] > docs/results.md

Each RUN_DIR is the output_dir of a finished run; every figure comes out of its run.json.
"""

from __future__ import annotations

import argparse
import json
from collections.abc import Iterator, Mapping, Sequence
from pathlib import Path
from typing import Any

from core.report.figures import comparison_header, comparison_rows, notes, run_rows
from core.report.matrix import worst
from core.report.sections import forgetting_table, slice_tables
from core.rounding import rounded

TITLES = {
    "quickstart": "ICD-10-CM: a diagnosis to its chapter, as JSON",
    "banking77": "BANKING77: a message to one of 77 intents",
    "snips": "SNIPS: a voice command to its intent and slots, as JSON",
}
INTRODUCTION = """\
# Was fine-tuning worth it? Three tasks, measured

SmolLM2-135M-Instruct (134.5 million parameters), frozen weights in the number format that was the faster there,
LoRA on all linear layers, trained on a CPU: the base model as it is, the base model with its task described in full and
five worked examples, and the fine-tuned model, on the same held-out rows. What each set of rows is and how it was drawn
stands in `recipes/<task>/README.md`; no training row is a near duplicate of a held-out one. The settings are the
quickstart's, chosen on the validation rows of ICD-10-CM (`benchmarks/LOG.md`); no setting was chosen by a test row.

This page is written by `benchmarks/results.py` out of the runs' `run.json`. With each run come the recipe, its lock,
all answers and a `report.html`; to make them again:
"""


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("runs", type=Path, nargs="+", metavar="RUN_DIR")
    parser.add_argument(
        "--busy", nargs="*", default=[], metavar="NAME", help="recipes whose run shared the machine: the page says so"
    )
    arguments = parser.parse_args()
    runs = [json.loads((folder / "run.json").read_text(encoding="utf-8")) for folder in arguments.runs]
    print(page(runs, arguments.busy))


def page(runs: Sequence[Mapping[str, Any]], busy: Sequence[str]) -> str:
    """The page in Markdown. runs: the content of each run.json. busy: recipes whose run shared the machine."""
    lines = [INTRODUCTION, *(f"    tunesmith run recipes/{recipe_name(values)}.yml" for values in runs), ""]
    lines += [*markdown([["task", "verdict"], *([title(values), values["verdict"]["words"]] for values in runs)]), ""]
    for values in runs:
        lines += section(values)
    return "\n".join([*lines, *machine(runs, busy)])


def recipe_name(values: Mapping[str, Any]) -> str:
    return Path(values["recipe"]["path"]).stem


def title(values: Mapping[str, Any]) -> str:
    return TITLES.get(recipe_name(values), recipe_name(values))


def section(values: Mapping[str, Any]) -> Iterator[str]:
    """A run: verdict, comparison, scores by slice, the worst confusions, general abilities, what it took."""
    yield from (f"## {title(values)}", "", f"**{values['verdict']['words']}**", "")
    yield from markdown([comparison_header(values), *comparison_rows(values)])
    yield from ("", " ".join(notes(values)), "")
    for heading, rows in slice_tables(values):
        yield from (f"### {heading[0].upper()}{heading[1:]}", "", *markdown(rows), "")
    for metric, result in values["evaluation"].get("tuned", {}).items():
        details = result.get("details", {})
        if details.get("confusion"):
            rows = [["expected", "answered", "items"], *worst(details["labels"], details["confusion"])]
            yield from (f"### {metric}: what the fine-tuned model confuses most", "", *markdown(rows), "")
        if details.get("per_field"):
            rows = [["field", "precision", "recall", "F1", "entries"], *map(field_row, details["per_field"].items())]
            yield from (f"### {metric.replace('_', ' ')}, fine-tuned, by field", "", *markdown(rows), "")
    if values.get("forgetting"):
        yield from ("### General abilities", "", values["forgetting"]["words"], "")
        yield from (*markdown(forgetting_table(values)), "")
    for gate in values.get("gates", ()):
        yield f"- gate {'passed' if gate['passed'] else 'failed'}: {gate['words']}"
    yield from (f"- {label}: {text}" for label, text in run_rows(values))
    yield ""


def field_row(entry: tuple[str, Mapping[str, float]]) -> list[Any]:
    name, found = entry
    return [name, *(rounded(found[figure], 2) for figure in ("precision", "recall", "f1")), found["support"]]


def machine(runs: Sequence[Mapping[str, Any]], busy: Sequence[str]) -> Iterator[str]:
    """Where and with what the runs were made."""
    yield from ("## Machine", "")
    for values in runs:
        about = values["environment"]
        versions = ", ".join(f"{name} {version}" for name, version in about["versions"].items())
        yield (
            f"- {recipe_name(values)}, finished {values['finished']}: {about.get('device_name') or about['device']}, "
            f"{about['threads']} threads; Python {about['python']}, {versions}"
            + ("; other programs shared the machine: read no times off it" if recipe_name(values) in busy else "")
        )


def markdown(rows: Sequence[Sequence[Any]]) -> list[str]:
    """A table; the first row is its header."""
    cells = [[str(cell).replace("|", "\\|").replace("\n", " ") for cell in row] for row in rows]
    header, *body = [f"| {' | '.join(row)} |" for row in cells]
    return [header, "|" + "---|" * len(cells[0]), *body]


if __name__ == "__main__":
    main()
