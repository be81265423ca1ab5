"""A column's answers on disk while it is being answered, so that what a crash interrupts is picked up again.

One file per column and process in `answers/` of the output folder, one JSON object per line. The name holds the hash of
everything the answers follow from (weights, prompts, decoding): answers to other questions are never mixed up.
"""

from __future__ import annotations

import hashlib
import json
import re
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from core.console import say
from core.processes import barrier, gather_objects, is_main, rank

FOLDER = "answers"
_UNSAFE = re.compile(r"[^\w.-]+")


@dataclass
class KeptAnswers:
    """The answers of one column: those found on disk, and a file to add others to.

    tokens: new token ids by item position. measured: what was measured per kind and position. facts: what was stated
    about the model once every answer was there. All are the same on every rank when opened.
    """

    path: Path
    column: str
    key: str
    tokens: dict[int, list[int]] = field(default_factory=dict)
    measured: dict[str, dict[int, dict[str, float]]] = field(default_factory=dict)
    facts: dict[str, Any] = field(default_factory=dict)
    writes: bool = True

    def add(self, positions: Sequence[int], tokens: Sequence[Sequence[int]], texts: Sequence[str]) -> None:
        """Keep the answers of a batch; on the rank that computed them."""
        for position, ids, text in zip(positions, tokens, texts, strict=True):
            self._write({"item": position, "text": text, "tokens": list(ids)})

    def add_measured(self, kind: str, measured: Mapping[int, Mapping[str, float]]) -> None:
        """Keep what was measured, once for all ranks."""
        self.measured[kind] = {position: dict(values) for position, values in measured.items()}
        if is_main():
            self._write({"measured": kind, "items": self.measured[kind]})

    def add_facts(self, facts: Mapping[str, Any]) -> None:
        """Keep what is stated about the model, once for all ranks; the column is answered then."""
        self.facts = dict(facts)
        if is_main():
            self._write({"facts": self.facts})

    def complete(self, items: int, kinds: Sequence[str]) -> bool:
        """Whether nothing is left to ask the model."""
        return len(self.tokens) == items and all(kind in self.measured for kind in kinds) and bool(self.facts)

    def _write(self, record: Mapping[str, Any]) -> None:
        if not self.writes:
            return
        try:
            with self.path.open("a", encoding="utf-8") as file:
                file.write(json.dumps(record, ensure_ascii=False) + "\n")
        except OSError as error:
            # the answers are still in memory; only a crash would lose them
            self.writes = False
            say(f"warning: {self.path} cannot be written, and ends here: {error.strerror or error}")


def open_answers(output_dir: Path, column: str, key: str, *, reuse: bool) -> KeptAnswers:
    """The file of a column's answers. reuse: take over what is there; else it starts empty. Called on every rank."""
    stem = f"{_UNSAFE.sub('-', column)}-{key[:10]}"
    folder = output_dir / FOLDER
    kept = KeptAnswers(folder / f"{stem}.{rank()}.jsonl", column, key)
    if is_main():
        try:
            folder.mkdir(parents=True, exist_ok=True)
        except OSError as error:
            kept.writes = False
            say(f"warning: answers are not kept while they come in: {folder}: {error.strerror or error}")
    barrier()
    records = _read(folder, stem, key) if reuse and is_main() else []
    for record in gather_objects(records):
        if "item" in record:
            kept.tokens[record["item"]] = record["tokens"]
        elif "measured" in record:
            kept.measured[record["measured"]] = {int(name): value for name, value in record["items"].items()}
        elif "facts" in record:
            kept.facts = record["facts"]
    _start(kept, afresh=not reuse)
    barrier()
    return kept


def key_of(**parts: Any) -> str:
    """One hash of everything that answers follow from."""
    return hashlib.sha256(json.dumps(parts, sort_keys=True, default=str).encode()).hexdigest()


def _start(kept: KeptAnswers, *, afresh: bool) -> None:
    """Begin this rank's file, or end the line that a crash cut off in it."""
    try:
        if afresh:
            kept.path.unlink(missing_ok=True)
        if not kept.path.exists():
            kept._write({"column": kept.column, "key": kept.key})
        elif not kept.path.read_bytes().endswith(b"\n"):
            with kept.path.open("a", encoding="utf-8") as file:
                file.write("\n")
    except OSError as error:
        if kept.writes:
            say(f"warning: answers are not kept while they come in: {kept.path}: {error.strerror or error}")
        kept.writes = False


def _read(folder: Path, stem: str, key: str) -> list[dict[str, Any]]:
    """The whole records of all ranks' files that belong to `key`."""
    records = []
    for path in sorted(folder.glob(f"{stem}.*.jsonl")):
        found = []
        # at line feeds alone: an answer may hold other characters that end a line for Python
        for line in path.read_text(encoding="utf-8", errors="replace").split("\n"):
            try:
                found.append(json.loads(line))
            except json.JSONDecodeError:
                continue  # cut off when the run was killed: this answer is computed again
        if found and found[0].get("key") == key:
            records += found[1:]
    return records
