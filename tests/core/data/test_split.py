from __future__ import annotations

import pytest

from core.data.split import shuffled, split
from core.errors import DataError


def test_sizes() -> None:
    keys = list(range(100))
    for size, count in ((0.1, 10), (25, 25), (0.001, 1), (1, 1)):
        train, val = split(keys, size, seed=1)
        assert len(val) == count
        assert sorted([*train, *val]) == keys


def test_duplicates_stay_on_one_side() -> None:
    keys = [n // 3 for n in range(90)]
    train, val = split(keys, 0.3, seed=7)
    assert len(val)
    assert not {keys[n] for n in train} & {keys[n] for n in val}


def test_seed_decides() -> None:
    keys = list(range(50))

    def parts(seed: int) -> list[list[int]]:
        return [part.tolist() for part in split(keys, 0.2, seed=seed)]

    assert parts(1) == parts(1) != parts(2)
    assert shuffled(50, 1).tolist() == shuffled(50, 1).tolist() != shuffled(50, 2).tolist()
    assert sorted(shuffled(50, 1).tolist()) == keys


def test_nothing_left_to_train_on() -> None:
    with pytest.raises(DataError, match="val_set_size 10 takes 10 of 10 examples: none would be left to train on"):
        split(list(range(10)), 10, seed=1)


def test_nothing_but_duplicates() -> None:
    with pytest.raises(DataError, match="every example has more duplicates than that"):
        split([0] * 10, 2, seed=1)
