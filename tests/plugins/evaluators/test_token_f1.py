from __future__ import annotations

from dataclasses import replace

import pytest

from plugins.evaluators.token_f1 import score
from tests.core.evaluation.making import make_item


def test_shared_words_by_hand() -> None:
    # predicted: cat sat on mat (4), expected: cat lay on red mat (5), shared: cat on mat (3)
    scores = score("The cat sat on the mat.", make_item("a cat lay on the red mat"), {})
    assert scores["precision"] == pytest.approx(3 / 4)
    assert scores["recall"] == pytest.approx(3 / 5)
    assert scores["token_f1"] == pytest.approx(2 * 3 / (4 + 5))


def test_a_word_counts_as_often_as_it_occurs() -> None:
    assert score("no no no", make_item("no"), {})["precision"] == pytest.approx(1 / 3)


def test_empty_texts() -> None:
    assert score("", make_item("yes"), {})["token_f1"] == 0.0
    assert score("", make_item("the"), {})["token_f1"] == 1.0
    assert score("", make_item("the"), {"drop_articles": False})["token_f1"] == 0.0


def test_the_best_reference_counts() -> None:
    item = replace(make_item(), references=("something else", "red mat"))
    assert score("Red mat!", item, {})["token_f1"] == 1.0
