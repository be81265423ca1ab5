"""Bins that are dissolved: never more work than before, and less where there is room."""

from __future__ import annotations

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from core.packing import dissolve, pack_dataset
from core.packing.dissolve import Held, cheapest_bins
from core.packing.prefixes import fill_bins, stored_tokens
from core.packing.rows import Outline


def outlined(tokens: str, length: int) -> Outline:
    """A row that begins with a shareable token for each letter."""
    prefix = b"".join(ord(letter).to_bytes(4, "big") for letter in tokens)
    return Outline(length, prefix)


row = st.builds(
    lambda text, more: outlined(text, len(text) + more), st.text("ab", min_size=1, max_size=9), st.integers(0, 5)
)
rows = st.lists(row, min_size=1, max_size=40)


def cost(found: list[Outline], bins: list[list[int]], bin_cost: float) -> float:
    return sum(stored_tokens([found[row] for row in members]) for members in bins) + bin_cost * len(bins)


@settings(deadline=None, max_examples=200)
@given(rows, st.integers(14, 40), st.sampled_from([0, 3, 10, 10**6]))
def test_no_row_is_lost_and_nothing_costs_more(found: list[Outline], capacity: int, bin_cost: int) -> None:
    before = fill_bins(found, capacity, share=True)
    after, sizes = cheapest_bins(found, capacity, bin_cost)
    assert sizes == [stored_tokens([found[row] for row in members]) for members in after]
    assert max(sizes) <= capacity
    assert sorted(row for members in after for row in members) == list(range(len(found)))
    assert cost(found, after, bin_cost) <= cost(found, before, bin_cost)
    assert (after, sizes) == cheapest_bins(found, capacity, bin_cost)


@settings(deadline=None, max_examples=100)
@given(rows, st.integers(14, 40), st.integers(0, 30))
def test_what_is_held_is_what_is_stored(found: list[Outline], capacity: int, bin_cost: int) -> None:
    """After bins that went, and bins that stayed, the tokens of each are those of its rows."""
    held = Held(found, fill_bins(found, capacity, share=True), capacity)
    for number in range(len(held.bins)):
        held.dissolve(number, bin_cost)
        assert held.stored == [stored_tokens([found[row] for row in members]) for members in held.bins]


# three prefixes of 10 tokens, two rows of 25 behind each: blocks of 60, of which two find no room in 100
BLOCKS = [outlined(letter * 10, 35) for letter in "abc" for _ in range(2)]


@pytest.mark.parametrize(("bin_cost", "bins"), [(5, 3), (10, 3), (11, 2), (10**6, 2)])
def test_a_block_is_split_where_its_prefix_costs_less_than_a_bin(bin_cost: int, bins: int) -> None:
    assert [len(members) for members in fill_bins(BLOCKS, 100, share=True)] == [2, 2, 2]
    found, sizes = cheapest_bins(BLOCKS, 100, bin_cost)
    assert len(found) == bins
    assert sum(sizes) == 180 + 10 * (3 - bins)


def test_bins_that_are_padded_are_made_few_at_any_cost() -> None:
    rows = [
        {"input_ids": [letter] * 300 + [word] * 351, "labels": [-100] * 300 + [word] * 351}
        for letter in (1, 2, 3)
        for word in (4, 5)
    ]
    # blocks of 1,000, of which a bin of 1,650 holds one; split, one of them is computed with its prefix twice
    assert [len(pack_dataset(rows, 1650, padded=padded).bins) for padded in (False, True)] == [3, 2]
    assert pack_dataset(rows, 1650).stored_tokens == 3000
    assert pack_dataset(rows, 1650, padded=True).stored_tokens == 3300


def test_of_many_rows_the_emptiest_bins_are_packed_anew(monkeypatch: pytest.MonkeyPatch) -> None:
    full = [outlined("z", 100) for _ in range(5)]
    monkeypatch.setattr(dissolve, "MOST_ROWS", 6)
    found, sizes = cheapest_bins([*full, *BLOCKS], 100, 50)
    assert [sorted(members) for members in found[:5]] == [[0], [1], [2], [3], [4]]
    assert sorted(row for members in found[5:] for row in members) == list(range(5, 11))
    assert len(found) == 7
    assert sum(sizes) == 500 + 190
