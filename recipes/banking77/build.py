"""Build the rows of recipes/banking77.yml: a bank customer's message in, one of 77 intents out.

Reads `train.csv` and `test.csv` of BANKING77 and writes `train.jsonl`, `validation.jsonl` and `test.jsonl` beside this
file (or into the folder given with `--out`). From the folder that holds `recipes`:

    python -m recipes.banking77.build --source FOLDER
"""

from __future__ import annotations

import argparse
import csv
import io
from collections import defaultdict
from pathlib import Path

from recipes.drawing import draw, lot, read_source, stop, trigrams, write_rows

SOURCES = {"train.csv": "b06e26ac67551395", "test.csv": "d12d6e3bc4c31039"}  # sha256, first 16 letters
PER_LABEL = {"train": 18, "validation": 2, "test": 4}
INSTRUCTION = "Name the intent of this message from a customer of a bank. Answer with the label only."


def main() -> None:
    """Build the three files and print the counts."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--source", type=Path, required=True, help="folder with train.csv and test.csv")
    parser.add_argument("--out", type=Path, default=Path(__file__).parent, help="folder to write to (default: here)")
    arguments = parser.parse_args()
    train, test = (by_label(read_source(arguments.source, name, sha)) for name, sha in SOURCES.items())
    if set(train) != set(test):
        raise stop("train.csv and test.csv do not have the same labels")
    chosen: dict[str, list[tuple[str, str]]] = {name: [] for name in PER_LABEL}
    for label in sorted(test):
        chosen["test"] += [(text, label) for text in draw(test[label], PER_LABEL["test"], ())[0]]
    held_out = [trigrams(text) for text, _ in chosen["test"]]
    for label in sorted(train):
        chosen["validation"] += [(text, label) for text in draw(train[label], PER_LABEL["validation"], held_out)[0]]
    held_out += [trigrams(text) for text, _ in chosen["validation"]]
    dropped = 0
    for label in sorted(train):
        texts, passed_over = draw(train[label], PER_LABEL["train"], held_out)
        chosen["train"] += [(text, label) for text in texts]
        dropped += passed_over
    for name, pairs in chosen.items():
        ordered = sorted(pairs, key=lambda pair: lot(name, *pair))
        rows = [{"instruction": INSTRUCTION, "input": text, "output": label} for text, label in ordered]
        write_rows(arguments.out / f"{name}.jsonl", rows)
        print(f"{name}: {len(rows)} rows, {len({label for _, label in pairs})} labels")
    print(f"passed over in drawing train rows, near duplicates of a held-out one: {dropped}")


def by_label(data: bytes) -> dict[str, list[str]]:
    """The texts of each label, white space put right; a text that stands under two labels is left out."""
    found: dict[str, set[str]] = defaultdict(set)
    for row in csv.DictReader(io.StringIO(data.decode("utf-8"), newline="")):
        found[" ".join(row["text"].split())].add(row["category"])
    labels: dict[str, list[str]] = defaultdict(list)
    for text, under in found.items():
        if len(under) == 1:
            labels[next(iter(under))].append(text)
    return dict(labels)


if __name__ == "__main__":
    main()
