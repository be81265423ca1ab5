"""Prepared rows a batch at a time."""

from __future__ import annotations

import random

import pytest
from datasets import Dataset

from core.data import rows
from core.data.rows import one_of_each_place


@pytest.mark.parametrize("batch", [2, 1000])
def test_one_of_each_place_is_the_first_in_order(batch: int, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(rows, "BATCH", batch)
    places = ["a:3", "a:1", "a:3", "b:1", "a:1", "a:2"]
    dataset = Dataset.from_dict({"input_ids": [[1]] * 6, "labels": [[1]] * 6, "place": places})
    numbers = one_of_each_place(dataset)
    assert [places[number] for number in numbers] == list(dict.fromkeys(places))
    assert not one_of_each_place(dataset.select([]))
    # an order that was asked for is kept
    assert list(one_of_each_place(dataset.select([5, 2, 0, 1]))) == [0, 1, 3]


def test_numbers_are_shuffled_as_a_list_would_be() -> None:
    places = [f"a:{number}" for number in range(50)]
    numbers = one_of_each_place(Dataset.from_dict({"place": places}))
    random.Random(7).shuffle(numbers)
    random.Random(7).shuffle(places)
    assert [f"a:{number}" for number in numbers] == places
