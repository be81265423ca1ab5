"""Rising numbers kept as runs: the same numbers back, however they lie."""

from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st

from core.audit.watching import Numbers


@given(st.sets(st.integers(0, 60)))
def test_numbers_come_back_as_they_were_added(wanted: set[int]) -> None:
    rising = sorted(wanted)
    numbers = Numbers()
    numbers.extend(rising[:5])
    for number in rising[5:]:
        numbers.append(number)
    assert list(numbers) == rising
    assert len(numbers) == len(rising)
    assert [numbers[place] for place in range(-len(rising), 0)] == rising
    assert numbers[2:9:2] == rising[2:9:2]
    with pytest.raises(IndexError):
        numbers[len(rising)]


def test_a_run_takes_no_room_for_its_length() -> None:
    numbers = Numbers()
    numbers.extend(range(7, 5_000))
    assert (len(numbers._firsts), len(numbers)) == (1, 4_993)
