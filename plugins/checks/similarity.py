"""Texts that are nearly the same: MinHash finds the candidates, the shingles themselves decide."""

from __future__ import annotations

import re
from collections.abc import Iterator, Sequence
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    import numpy as np
    from numpy.typing import NDArray

    Hashes = NDArray[np.uint64]

WIDTH = 5  # characters of a shingle
LONGEST = 4_000  # characters of a text that are compared
LEAST = 12  # shingles that a text must have of its own to be compared
SAMPLE = 2_000  # texts looked at to learn what stands in many
COMMON_SHARE, COMMON_COUNT = 0.05, 20  # a shingle in more texts than both is boilerplate
PERMUTATIONS, BANDS = 128, 16
IN_A_BUCKET = 4
CHUNK = 1_000
_FACTOR = 0x9E3779B97F4A7C15
_OTHER = re.compile(r"\W+")


def normalised(text: str) -> str:
    """Lower case, and one space for everything that is no letter or digit."""
    return _OTHER.sub(" ", text[:LONGEST].casefold()).strip()


def near_pairs(texts: Sequence[str], similarity: float, against: Sequence[str] | None = None) -> list[tuple[int, int]]:
    """(index, index of another) for every text whose shingles equal those of another by `similarity` (Jaccard) or more.

    The other is an earlier text, or one of `against`. Shingles that stand in many texts (a template, an instruction)
    are left out first. Broder, "On the resemblance and containment of documents", 1997.
    """
    if not texts:
        return []
    clean = [normalised(text) for text in texts]
    others = clean if against is None else [normalised(text) for text in against]
    common = _common(others)
    buckets: dict[bytes, list[int]] = {}
    exact: dict[str, int] = {}
    pairs = []
    if against is not None:
        for index, bands in enumerate(_bands(others, common)):
            exact.setdefault(others[index], index)
            _insert(buckets, bands, index)
    for index, bands in enumerate(_bands(clean, common)):
        found = exact.get(clean[index]) if clean[index] else None
        if found is None:
            candidates = dict.fromkeys(other for band in bands for other in buckets.get(band, ()))
            own = _distinct(clean[index], common) if candidates else None
            found = next((o for o in candidates if _jaccard(own, _distinct(others[o], common)) >= similarity), None)
        if found is not None:
            pairs.append((index, found))
        elif against is None:
            # copies of a text need not be compared with again
            exact.setdefault(clean[index], index)
            _insert(buckets, bands, index)
    return pairs


def _insert(buckets: dict[bytes, list[int]], bands: Sequence[bytes], index: int) -> None:
    for band in bands:
        bucket = buckets.setdefault(band, [])
        if len(bucket) < IN_A_BUCKET:
            bucket.append(index)


def _bands(texts: Sequence[str], common: Hashes) -> Iterator[Sequence[bytes]]:
    """The keys under which similar texts meet; none for a text that has too little of its own."""
    import numpy as np
    from rensa import RMinHash

    width = PERMUTATIONS // BANDS * 4
    for start in range(0, len(texts), CHUNK):
        flat, counts = _own_hashes(texts[start : start + CHUNK], common)
        ends = np.cumsum([0, *counts]).tolist()
        matrix = RMinHash.digest_matrix_from_flat_token_hashes(flat, ends, num_perm=PERMUTATIONS, seed=1)
        for count, digest in zip(counts, matrix.to_rows(), strict=True):
            row = np.array(digest, dtype=np.uint32).tobytes()
            enough = count >= LEAST
            yield [bytes([n]) + row[n * width : (n + 1) * width] for n in range(BANDS)] if enough else ()


def _own_hashes(texts: Sequence[str], common: Hashes) -> tuple[Hashes, list[int]]:
    """The hashes of all runs of WIDTH characters that are no boilerplate, text by text, and how many each text has."""
    import numpy as np

    codes = np.frombuffer("".join(texts).encode("utf-32-le", "surrogatepass"), dtype=np.uint32).astype(np.uint64)
    lengths = np.array([len(text) for text in texts])
    text_of = np.repeat(np.arange(len(texts)), lengths)
    count = max(0, len(codes) - WIDTH + 1)
    hashes = np.zeros(count, np.uint64)
    for offset in range(WIDTH):
        hashes = (hashes + codes[offset : offset + count]) * np.uint64(_FACTOR)
        hashes ^= hashes >> np.uint64(29)
    first, last = text_of[:count], text_of[WIDTH - 1 : WIDTH - 1 + count]
    own = first == last
    if len(common) and count:
        places = np.minimum(np.searchsorted(common, hashes), len(common) - 1)
        own &= common[places] != hashes
    return hashes[own], np.bincount(first[own], minlength=len(texts)).tolist()


def _distinct(text: str, common: Hashes) -> Hashes:
    import numpy as np

    return np.unique(_own_hashes([text], common)[0])


def _common(texts: Sequence[str]) -> Hashes:
    """The hashes of boilerplate, sorted."""
    import numpy as np

    none = np.zeros(0, np.uint64)
    step = max(1, len(texts) // SAMPLE)
    sample = [_distinct(text, none) for text in texts[::step]]
    if not sample:
        return none
    values, counts = np.unique(np.concatenate(sample), return_counts=True)
    return np.asarray(values[counts > max(COMMON_COUNT, COMMON_SHARE * len(sample))])


def _jaccard(first: Any, second: Any) -> float:
    import numpy as np

    both = len(np.intersect1d(first, second, assume_unique=True))
    return both / max(1, len(first) + len(second) - both)
