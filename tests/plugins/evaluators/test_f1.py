from __future__ import annotations

import pytest

from plugins.evaluators.f1 import f1_of, mean_of


@pytest.mark.parametrize(
    ("right", "found", "wanted", "expected"),
    [
        (2, 4, 3, (4 / 7, 0.5, 2 / 3)),
        (0, 4, 3, (0.0, 0.0, 0.0)),
        (0, 0, 3, (0.0, 0.0, 0.0)),
        (0, 4, 0, (0.0, 0.0, 0.0)),
        (0, 0, 0, (1.0, 1.0, 1.0)),
        (3, 3, 3, (1.0, 1.0, 1.0)),
    ],
)
def test_f1_precision_and_recall(right: int, found: int, wanted: int, expected: tuple[float, float, float]) -> None:
    assert f1_of(right, found, wanted) == pytest.approx(expected)


def test_the_mean_of_a_figure() -> None:
    assert mean_of([{"a": 1.0, "b": 5.0}, {"a": 0.0, "b": 5.0}], "a") == 0.5
