from __future__ import annotations

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from core.packing import epoch_order, first_fit_decreasing


def naive(sizes, capacity):
    bins = []
    for item in sorted(range(len(sizes)), key=lambda i: -sizes[i]):
        for members in bins:
            if sum(sizes[i] for i in members) + sizes[item] <= capacity:
                members.append(item)
                break
        else:
            bins.append([item])
    return bins


@settings(deadline=None, max_examples=200)
@given(st.lists(st.integers(0, 20), max_size=40), st.integers(20, 40))
def test_it_is_first_fit_decreasing(sizes, capacity):
    assert first_fit_decreasing(sizes, capacity) == naive(sizes, capacity)


def test_nothing_gives_no_bins():
    assert first_fit_decreasing([], 10) == []


def test_an_item_that_fits_nowhere_is_named():
    with pytest.raises(ValueError, match="item 1 has size 11, more than the capacity of 10"):
        first_fit_decreasing([3, 11], 10)


def test_epochs_differ_and_come_back():
    orders = [epoch_order(50, seed=1, epoch=epoch) for epoch in (0, 1, 0)]
    assert orders[0] == orders[2] != orders[1]
    assert sorted(orders[1]) == list(range(50))
    assert epoch_order(50, seed=2, epoch=0) != orders[0]
