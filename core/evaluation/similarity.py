"""Which texts are nearest in wording: the cosine of character trigrams, weighted by how rare they are."""

from __future__ import annotations

import re
import zlib
from collections import Counter
from collections.abc import Sequence
from typing import Any

WIDTH = 3  # characters of a gram
BUCKETS = 2**20
LONGEST = 4_000  # characters of a text that are compared
CHUNK = 256  # texts compared at once
_SPACE = re.compile(r"\s+")


def nearest(texts: Sequence[str], among: Sequence[str], count: int) -> list[list[int]]:
    """For each text the indices of the `count` nearest of `among`, nearest first; equally near ones in their order."""
    import numpy as np

    weights = _rarity(among)
    pool = _vectors(among, weights)
    found: list[list[int]] = []
    for start in range(0, len(texts), CHUNK):
        scores = (_vectors(texts[start : start + CHUNK], weights) @ pool.T).toarray()
        order = np.argsort(-np.round(scores, 9), axis=1, kind="stable")[:, :count]
        found += order.tolist()
    return found


def _grams(text: str) -> Counter[int]:
    clean = f" {_SPACE.sub(' ', text[:LONGEST].casefold()).strip()} "
    grams = (clean[start : start + WIDTH] for start in range(max(1, len(clean) - WIDTH + 1)))
    return Counter(zlib.crc32(gram.encode("utf-8")) % BUCKETS for gram in grams)


def _rarity(texts: Sequence[str]) -> Any:
    """The weight of each gram, [BUCKETS]: the logarithm of how few of the texts have it."""
    import numpy as np

    counts = np.zeros(BUCKETS)
    for text in texts:
        counts[list(_grams(text))] += 1
    return np.log((1 + len(texts)) / (1 + counts)) + 1


def _vectors(texts: Sequence[str], weights: Any) -> Any:
    """One row of length 1 per text, sparse [texts, BUCKETS]."""
    import numpy as np
    from scipy.sparse import csr_matrix

    columns: list[int] = []
    values: list[float] = []
    starts = [0]
    for text in texts:
        grams = _grams(text)
        row = np.array(list(grams.values())) * weights[list(grams)]
        columns += grams
        values += (row / np.linalg.norm(row)).tolist()
        starts.append(len(columns))
    return csr_matrix((values, columns, starts), shape=(len(texts), BUCKETS))
