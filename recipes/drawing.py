"""How the recipes' data sets draw rows and tell duplicates: shared by `recipes/<task>/build.py`.

Nothing is drawn with a random number generator: rows are ordered by a hash of a seed and their text, so the same
source gives the same bytes on every machine and in every Python version.
"""

from __future__ import annotations

import hashlib
import json
import os
import re
import sys
import unicodedata
from collections.abc import Collection, Iterable, Mapping
from pathlib import Path

SEED = 2026
NEAR_DUPLICATE = 0.6  # Jaccard similarity of letter trigrams


def stop(message: str) -> SystemExit:
    """Print an error and give the exit to raise."""
    print(f"error: {message}", file=sys.stderr)
    return SystemExit(2)


def lot(*parts: str) -> bytes:
    """What rows are ordered by."""
    return hashlib.sha256(" ".join([str(SEED), *parts]).encode()).digest()


def words(text: str) -> tuple[str, ...]:
    """The normal form: words without case, accents, punctuation, repeats and order."""
    plain = "".join(c for c in unicodedata.normalize("NFKD", text) if not unicodedata.combining(c)).casefold()
    return tuple(sorted(set(re.findall(r"[a-z0-9]+", plain))))


def trigrams(text: str) -> frozenset[str]:
    """The three-letter pieces of each word of the normal form, its edges marked by blanks."""
    return frozenset(f" {word} "[i : i + 3] for word in words(text) for i in range(len(word)))


def similarity(a: frozenset[str], b: frozenset[str]) -> float:
    """Jaccard similarity of two sets, 0 to 1."""
    small, large = sorted((len(a), len(b)))
    if not small or small < NEAR_DUPLICATE * large:
        return 0.0  # cannot reach the threshold; saves most of the work
    common = len(a & b)
    return common / (small + large - common)


def draw(texts: Iterable[str], count: int, unlike: Collection[frozenset[str]]) -> tuple[list[str], int]:
    """`count` of `texts` by lot, none a near duplicate of another or of one in `unlike`; and how many were passed over
    because they are near duplicates of one in `unlike`."""
    chosen: list[str] = []
    taken: list[frozenset[str]] = []
    passed_over = 0
    for text in sorted(set(texts), key=lot):
        if len(chosen) == count:
            break
        own = trigrams(text)
        if any(similarity(own, other) >= NEAR_DUPLICATE for other in unlike):
            passed_over += 1
        elif all(similarity(own, other) < NEAR_DUPLICATE for other in taken):
            chosen.append(text)
            taken.append(own)
    return chosen, passed_over


def read_source(folder: Path, name: str, sha256: str) -> bytes:
    """A file of the source, known by the first letters of its hash."""
    try:
        data = (folder / name).read_bytes()
    except OSError as error:
        raise stop(f"{folder / name} cannot be read: {error.strerror}") from None
    found = hashlib.sha256(data).hexdigest()
    if not found.startswith(sha256):
        raise stop(f"{folder / name} is not the file these rows are built from (sha256 {found[:16]}, not {sha256})")
    return data


def write_rows(path: Path, rows: Iterable[Mapping[str, str]]) -> None:
    """JSON Lines, whole or not at all."""
    write_text(path, "".join(json.dumps(row, ensure_ascii=False) + "\n" for row in rows))


def write_text(path: Path, text: str) -> None:
    """Write a file whole or not at all."""
    part = path.with_name(path.name + ".part")
    part.write_bytes(text.encode())
    os.replace(part, path)
