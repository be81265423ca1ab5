"""Texts that are nearly the same: MinHash finds the candidates, the shingles themselves decide."""

from __future__ import annotations

import os
import re
import tempfile
from array import array
from collections.abc import Sequence
from functools import lru_cache
from typing import TYPE_CHECKING, Any

from core.audit.contents import repeated

if TYPE_CHECKING:
    import numpy as np
    from numpy.typing import NDArray

    Hashes = NDArray[np.uint64]
    Ints = NDArray[np.int64]

WIDTH = 5  # characters of a shingle
LONGEST = 4_000  # characters of a text that are compared
LEAST = 12  # shingles that a text must have of its own to be compared
SAMPLE = 2_000  # texts looked at to learn what stands in many
COMMON_SHARE, COMMON_COUNT = 0.05, 20  # a shingle in more texts than both is boilerplate
PERMUTATIONS, BANDS = 128, 16
IN_A_BUCKET = 4
CHUNK = 1_000
HASHED = 50  # texts whose shingles are hashed at once: their arrays stay in the processor's cache
_FACTOR = 0x9E3779B97F4A7C15
_OTHER = re.compile(r"\W+")
_PLAIN = {code: " " for code in range(128) if not (chr(code).isalnum() or chr(code) == "_")}
DISTINCT_KEPT = 2_000  # texts whose shingles are kept at hand while texts are compared


def normalised(text: str) -> str:
    """Lower case, and one space for everything that is no letter or digit."""
    text = text[:LONGEST]
    if text.isascii():
        return " ".join(text.lower().translate(_PLAIN).split())
    return _OTHER.sub(" ", text.casefold()).strip()


class Texts:
    """Normalised texts in a temporary file that has no name; in memory are 16 bytes for each: its place and a hash."""

    def __init__(self) -> None:
        self._ends, self.hashes = array("q", [0]), array("q")
        self._file = tempfile.TemporaryFile()  # noqa: SIM115 - closed with this object
        self._waiting: list[bytes] = []

    def __len__(self) -> int:
        return len(self.hashes)

    def add(self, text: str) -> None:
        """Append `text`, normalised."""
        clean = normalised(text)
        raw = clean.encode("utf-8", "surrogatepass")
        self.hashes.append(hash(clean) if clean else 0)
        self._ends.append(self._ends[-1] + len(raw))
        self._waiting.append(raw)
        if len(self._waiting) >= CHUNK:
            self._write()

    def hash_of(self, indices: Ints) -> Ints:
        """The hashes of these texts, 0 for empty ones."""
        import numpy as np

        found: Ints = np.frombuffer(self.hashes, dtype=np.int64)[indices]
        return found

    def get(self, index: int) -> str:
        """The text that was added as number `index`, from 0."""
        self._write()
        start, end = self._ends[index], self._ends[index + 1]
        return os.pread(self._file.fileno(), end - start, start).decode("utf-8", "surrogatepass")

    def _write(self) -> None:
        if self._waiting:
            self._file.write(b"".join(self._waiting))
            self._file.flush()
            self._waiting = []


def near_pairs(texts: Sequence[str], similarity: float, against: Sequence[str] | None = None) -> list[tuple[int, int]]:
    """`similar` for texts in memory."""
    both: list[Texts | None] = [None if given is None else Texts() for given in (texts, against)]
    for made, given in zip(both, (texts, against), strict=True):
        for text in given or ():
            assert made is not None
            made.add(text)
    assert both[0] is not None
    return similar(both[0], similarity, both[1])


def similar(
    texts: Texts, similarity: float, against: Texts | None = None, *, chosen: Ints | None = None
) -> list[tuple[int, int]]:
    """(index, index of another) for every text whose shingles equal those of another by `similarity` (Jaccard) or more.

    The other is an earlier text, or one of `against`. chosen: the indices of the texts to look at; default: all.
    Shingles that stand in many texts (a template, an instruction) are left out first. Broder, "On the resemblance and
    containment of documents", 1997. In memory are some 40 bytes for each text.
    """
    import numpy as np

    asked = np.arange(len(texts)) if chosen is None else chosen
    if not len(asked):
        return []
    known = asked[:0] if against is None else np.arange(len(against))
    common = Members(_common(texts, asked) if against is None else _common(against, known))
    keys = Keys()
    if against is not None:
        keys.add(against, known, common)
    keys.add(texts, asked, common)
    meeting = keys.meeting()
    del keys
    # numbers below `base` are those of `against`
    base, others = len(known), against or texts
    hashes = texts.hash_of(asked) if against is None else np.concatenate([against.hash_of(known), texts.hash_of(asked)])
    again = _again(hashes)
    buckets: dict[tuple[int, int], list[int]] = {}
    exact: dict[int, int] = {}
    pairs = []

    @lru_cache(DISTINCT_KEPT)
    def distinct_other(number: int) -> Hashes:
        index = int(known[number] if against is not None else asked[number])
        return _distinct(others.get(index), common)

    def insert(number: int) -> None:
        if number in again:
            exact.setdefault(int(hashes[number]), number)
        for key in meeting.get(number, ()):
            bucket = buckets.setdefault(key, [])
            if len(bucket) < IN_A_BUCKET:
                bucket.append(number)

    for number in sorted({*meeting, *again}):
        if number < base:
            insert(number)
            continue
        found = exact.get(int(hashes[number])) if number in again else None
        if found is None:
            candidates = dict.fromkeys(other for key in meeting.get(number, ()) for other in buckets.get(key, ()))
            if candidates:
                own = _distinct(texts.get(int(asked[number - base])), common)
                found = next((o for o in candidates if _jaccard(own, distinct_other(o)) >= similarity), None)
        if found is not None:
            other = found if against is not None else int(asked[found])
            pairs.append((int(asked[number - base]), other))
        elif against is None:
            # copies of a text need not be compared with again
            insert(number)
    return pairs


def _again(hashes: Ints) -> set[int]:
    """The numbers of texts, not empty, that are there more than once."""
    found = repeated(hashes)
    return set(found[hashes[found] != 0].tolist())


class Keys:
    """The keys under which similar texts meet, one for each band; in a temporary file per band."""

    def __init__(self) -> None:
        self._files = [tempfile.TemporaryFile() for _ in range(BANDS)]  # noqa: SIM115

    def add(self, texts: Texts, indices: Ints, common: Members) -> None:
        """Append the keys of these texts; 0 for a text that has too little of its own."""
        import numpy as np
        from rensa import RMinHash

        for start in range(0, len(indices), HASHED):
            chunk = [texts.get(index) for index in indices[start : start + HASHED].tolist()]
            flat, counts = _own_hashes(chunk, common)
            ends = np.cumsum([0, *counts]).tolist()
            matrix = RMinHash.digest_matrix_from_flat_token_hashes(flat, ends, num_perm=PERMUTATIONS, seed=1)
            digests = np.array(matrix.to_rows(), dtype=np.uint64).reshape(len(chunk), BANDS, -1)
            keys = np.zeros((len(chunk), BANDS), dtype=np.uint64)
            for column in range(digests.shape[2]):
                keys = (keys ^ digests[:, :, column]) * np.uint64(_FACTOR)
                keys ^= keys >> np.uint64(29)
            keys[np.array(counts) < LEAST] = 0
            for file, column_of in zip(self._files, np.ascontiguousarray(keys.T), strict=True):
                file.write(column_of.tobytes())

    def meeting(self) -> dict[int, list[tuple[int, int]]]:
        """The (band, key) of each text that another text has too, by the number of the text, bands in order."""
        import numpy as np

        found: dict[int, list[tuple[int, int]]] = {}
        for band, file in enumerate(self._files):
            file.seek(0)
            keys = np.frombuffer(file.read(), dtype=np.uint64)
            file.close()
            numbers = repeated(keys)
            numbers = numbers[keys[numbers] != 0]
            for number, key in zip(numbers.tolist(), keys[numbers].tolist(), strict=True):
                found.setdefault(number, []).append((band, key))
        return found


class Members:
    """Which of many hashes are members of a small set. values: its hashes, sorted."""

    def __init__(self, values: Hashes) -> None:
        import numpy as np

        self._values = values
        # most others are told by their lowest bits alone
        bits = max(10, (16 * len(values)).bit_length())
        self._mask = np.uint64((1 << bits) - 1)
        self._may_be = np.zeros(1 << bits, dtype=bool)
        self._may_be[values & self._mask] = True

    def among(self, hashes: Hashes) -> NDArray[np.bool_]:
        """True where the hash is a member."""
        import numpy as np

        found: NDArray[np.bool_] = self._may_be[hashes & self._mask]
        at = np.flatnonzero(found)
        asked = hashes[at]
        places = np.minimum(np.searchsorted(self._values, asked), len(self._values) - 1)
        found[at] = self._values[places] == asked if len(self._values) else False
        return found


def _own_hashes(texts: Sequence[str], common: Members | None) -> tuple[Hashes, list[int]]:
    """The hashes of all runs of WIDTH characters that are no boilerplate, text by text, and how many each text has."""
    import numpy as np

    codes = np.frombuffer("".join(texts).encode("utf-32-le", "surrogatepass"), dtype=np.uint32).astype(np.uint64)
    lengths = np.array([len(text) for text in texts])
    count = max(0, len(codes) - WIDTH + 1)
    hashes = codes[:count].copy()
    for offset in range(1, WIDTH):
        # characters are below 2 ** 21: sums of so few of them differ wherever one of them does, as good as surely
        hashes *= np.uint64(_FACTOR)
        hashes += codes[offset : offset + count]
    for factor in (_FACTOR, _FACTOR):
        hashes ^= hashes >> np.uint64(29)
        hashes *= np.uint64(factor)
    hashes ^= hashes >> np.uint64(32)
    own = np.ones(count, dtype=bool)
    ends = np.cumsum(lengths)
    # runs that begin in the last characters of a text end in another one
    for back in range(1, WIDTH):
        over = ends - back
        own[over[(over >= 0) & (over < count)]] = False
    if common is not None:
        own &= ~common.among(hashes)
    told = np.concatenate([[0], np.cumsum(own)])[np.minimum(np.concatenate([[0], ends]), count)]
    return hashes[own], np.diff(told).tolist()


def _distinct(text: str, common: Members | None) -> Hashes:
    import numpy as np

    return np.unique(_own_hashes([text], common)[0])


def _common(texts: Texts, indices: Ints) -> Hashes:
    """The hashes of boilerplate, sorted."""
    import numpy as np

    step = max(1, len(indices) // SAMPLE)
    sample = [_distinct(texts.get(index), None) for index in indices[::step].tolist()]
    if not sample:
        return np.zeros(0, np.uint64)
    values, counts = np.unique(np.concatenate(sample), return_counts=True)
    return np.asarray(values[counts > max(COMMON_COUNT, COMMON_SHARE * len(sample))])


def _jaccard(first: Any, second: Any) -> float:
    import numpy as np

    both = len(np.intersect1d(first, second, assume_unique=True))
    return both / max(1, len(first) + len(second) - both)
