"""ROUGE, BLEU and chrF against the libraries that compute them."""

from __future__ import annotations

from pathlib import Path

import pytest

from core.host import load_host
from plugins.evaluators import entries
from plugins.evaluators.rouge import score as rouge
from plugins.evaluators.translation import score_bleu, score_chrf, summarise_bleu
from tests.plugins.evaluators.rows import item

REFERENCES = [
    "The cat sat on the mat.",
    "There is a dog in the garden tonight.",
    "Rain fell all day long in the valley.",
]
ANSWERS = ["The cat is on the mat.", "There is a dog in the garden.", "It was sunny."]


def test_bleu_of_the_column_is_sacrebleus_corpus_bleu() -> None:
    sacrebleu = pytest.importorskip("sacrebleu")
    scores = [score_bleu(answer, item(reference), {}) for answer, reference in zip(ANSWERS, REFERENCES, strict=True)]
    assert summarise_bleu(scores, {})["bleu"] == pytest.approx(sacrebleu.corpus_bleu(ANSWERS, [REFERENCES]).score)
    assert scores[0]["bleu"] == pytest.approx(sacrebleu.sentence_bleu(ANSWERS[0], [REFERENCES[0]]).score)


def test_chrf_is_sacrebleus() -> None:
    sacrebleu = pytest.importorskip("sacrebleu")
    found = score_chrf(ANSWERS[0], item(REFERENCES[0]), {"word_order": 2})["chrf"]
    assert found == pytest.approx(sacrebleu.sentence_chrf(ANSWERS[0], [REFERENCES[0]], word_order=2).score)


def test_rouge_is_that_of_rouge_score() -> None:
    scorer = pytest.importorskip("rouge_score.rouge_scorer")
    expected = scorer.RougeScorer(["rougeL", "rouge2"]).score(REFERENCES[1], ANSWERS[1])
    found = rouge(ANSWERS[1], item(REFERENCES[1]), {})
    assert found["rouge"] == found["rougeL"] == pytest.approx(expected["rougeL"].fmeasure)
    assert rouge(ANSWERS[1], item(REFERENCES[1]), {"kind": "rouge2"})["rouge"] == pytest.approx(
        expected["rouge2"].fmeasure
    )


def test_the_best_reference_counts() -> None:
    pytest.importorskip("sacrebleu")
    row = item("Something else entirely.", others=["The cat is on the mat."])
    assert score_bleu(ANSWERS[0], row, {"references": "others"})["bleu"] == pytest.approx(100.0)
    assert rouge(ANSWERS[0], row, {"references": "others"})["rouge"] == 1.0


@pytest.mark.parametrize(
    ("metric", "package"), [("rouge", "rouge-score"), ("bleu", "sacrebleu"), ("chrf", "sacrebleu")]
)
def test_a_missing_package_is_named_with_the_command(
    metric: str, package: str, tmp_path: Path, tiny_model: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    from core.check import check_recipe
    from core.recipe import load_recipe
    from core.testing.recipes import write_tiny_recipe

    monkeypatch.setattr(entries, "find_spec", lambda name: None)
    path = write_tiny_recipe(tmp_path, tiny_model, {"evaluation": {"metrics": [{"type": metric}]}})
    problems = check_recipe(load_recipe(path), load_host())
    (found,) = [problem for problem in problems if package in problem.message]
    assert found.blocks_run
    assert found.help == "pip install 'tunesmith[metrics]'"
    assert found.key == ("evaluation", "metrics", 0, "type")
