from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import pytest

from core import RowError
from plugins.evaluators.classification import check, complete, details, score, settled, summarise
from tests.plugins.evaluators.rows import item

LABELS = {"labels": ["cat", "dog", "bird"]}
REFERENCES = ["cat", "cat", "cat", "dog", "dog", "bird"]
ANSWERS = ["cat", "cat", "dog", "dog", "a fish", "cat"]


def summed(answers: Sequence[str], **options: Any) -> dict[str, float]:
    chosen = {**LABELS, **options}
    scores = [score(answer, item(reference), chosen) for answer, reference in zip(answers, REFERENCES, strict=True)]
    return summarise(scores, chosen)


def test_averages_are_those_worked_out_by_hand() -> None:
    # cat: 2 right, 3 answered, 3 expected; dog: 1, 2, 2; bird: 0, 0, 1
    cat, dog, bird = 2 * 2 / 6, 2 * 1 / 4, 0.0
    found = summed(ANSWERS)
    assert found["classification"] == found["macro_f1"] == pytest.approx((cat + dog + bird) / 3)
    assert found["weighted_f1"] == pytest.approx((3 * cat + 2 * dog + bird) / 6)
    assert found["accuracy"] == pytest.approx(3 / 6)
    assert found["unknown"] == pytest.approx(1 / 6)
    assert summed(ANSWERS, average="micro")["classification"] == found["accuracy"]
    assert summed(ANSWERS, average="weighted")["classification"] == found["weighted_f1"]
    assert summed(REFERENCES)["classification"] == 1.0


def test_the_confusion_matrix_counts_strangers_apart() -> None:
    found = details(ANSWERS, [item(reference) for reference in REFERENCES], LABELS)
    assert found["labels"] == ["cat", "dog", "bird"]
    assert found["confusion"] == [[2, 1, 0, 0], [0, 1, 0, 1], [1, 0, 0, 0]]
    assert sum(map(sum, found["confusion"])) == len(ANSWERS)
    assert found["unknown_labels"] == [{"answer": "a fish", "count": 1}]
    assert found["reasons"] == {"unknown_label": 1}
    assert found["per_label"]["cat"] == {
        "precision": pytest.approx(2 / 3),
        "recall": pytest.approx(2 / 3),
        "f1": pytest.approx(2 / 3),
        "support": 3,
    }


def test_labels_are_strict_unless_case_is_folded() -> None:
    assert score("Cat", item("cat"), LABELS)["unknown"] == 1.0
    assert score("cat.", item("cat"), LABELS)["classification"] == 0.0
    assert score(" Cat ", item("cat"), {**LABELS, "casefold": True})["classification"] == 1.0


def test_labels_are_taken_from_the_references_where_none_are_named() -> None:
    assert complete([item("b"), item("a "), item("b")], {})["labels"] == ["a", "b"]
    assert complete([item("b")], LABELS)["labels"] == LABELS["labels"]


def test_a_reference_that_is_no_label_is_found_beforehand() -> None:
    with pytest.raises(RowError, match="'horse' is none of the labels cat, dog, bird"):
        check(item("horse"), LABELS)
    check(item("dog"), LABELS)
    check(item("anything"), {})


def test_an_answer_is_settled_when_it_can_be_no_label_any_more() -> None:
    assert not settled("", item("cat"), LABELS)
    assert not settled(" bi", item("cat"), LABELS)
    assert settled("The", item("cat"), LABELS)
    assert settled("cat and", item("cat"), LABELS)
