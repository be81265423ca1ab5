"""`bleu` and `chrf`: overlap of word and of character sequences, by the package sacrebleu (extra `metrics`)."""

from __future__ import annotations

import math
from collections.abc import Sequence
from functools import lru_cache
from typing import Any

from core import Evaluator, Item, Problem, Recipe, hookimpl
from core.types import Options
from plugins.evaluators.entries import missing_package
from plugins.evaluators.f1 import mean_of
from plugins.evaluators.references import OPTION, acceptable, check

ORDERS = (1, 2, 3, 4)
BLEU_OPTIONS: dict[str, Any] = {
    "tokenize": {
        "type": "string",
        "enum": ["13a", "intl", "char", "none"],
        "default": "13a",
        "description": "How sacrebleu splits texts into words.",
    },
    "lowercase": {"type": "boolean", "default": False, "description": "Upper and lower case count as equal."},
    **OPTION,
}
CHRF_OPTIONS: dict[str, Any] = {
    "word_order": {
        "type": "integer",
        "minimum": 0,
        "maximum": 4,
        "default": 0,
        "description": "Sequences of so many words count too; 2 makes it chrF++.",
    },
    "lowercase": {"type": "boolean", "default": False, "description": "Upper and lower case count as equal."},
    **OPTION,
}


def score_bleu(prediction: str, item: Item, options: Options) -> dict[str, float]:
    """BLEU of this answer alone, and the counts that BLEU of the whole column is made of."""
    metric = _bleu(str(options.get("tokenize", "13a")), bool(options.get("lowercase")))
    found = metric.sentence_score(prediction, list(acceptable(item, options)))
    counts = {f"right:{n}": float(found.counts[n - 1]) for n in ORDERS}
    totals = {f"total:{n}": float(found.totals[n - 1]) for n in ORDERS}
    return {
        "bleu": float(found.score),
        "length": float(found.sys_len),
        "wanted": float(found.ref_len),
        **counts,
        **totals,
    }


def summarise_bleu(scores: Sequence[dict[str, float]], options: Options) -> dict[str, float]:
    """BLEU of the column: counts added up over the answers (Papineni et al. 2002), smoothed as sacrebleu does."""
    from sacrebleu.metrics.bleu import BLEU

    def total(key: str) -> int:
        return int(math.fsum(one[key] for one in scores))

    found = BLEU.compute_bleu(
        correct=[total(f"right:{n}") for n in ORDERS],
        total=[total(f"total:{n}") for n in ORDERS],
        sys_len=total("length"),
        ref_len=total("wanted"),
    )
    return {
        "bleu": float(found.score),
        "brevity_penalty": float(found.bp),
        "sentence_bleu": mean_of(scores, "bleu"),
    }


def score_chrf(prediction: str, item: Item, options: Options) -> dict[str, float]:
    """chrF of this answer (Popović 2015); the column's figure is the mean over the answers."""
    metric = _chrf(int(options.get("word_order", 0)), bool(options.get("lowercase")))
    return {"chrf": float(metric.sentence_score(prediction, list(acceptable(item, options))).score)}


@lru_cache(maxsize=8)
def _bleu(tokenize: str, lowercase: bool) -> Any:
    from sacrebleu.metrics.bleu import BLEU

    return BLEU(tokenize=tokenize, lowercase=lowercase, effective_order=True)


@lru_cache(maxsize=8)
def _chrf(word_order: int, lowercase: bool) -> Any:
    from sacrebleu.metrics.chrf import CHRF

    return CHRF(word_order=word_order, lowercase=lowercase)


@hookimpl
def check_recipe(recipe: Recipe) -> list[Problem]:
    """The package sacrebleu is installed."""
    return missing_package(recipe, "sacrebleu", "bleu", "chrf")


@hookimpl
def evaluators() -> list[Evaluator]:
    return [
        Evaluator(
            "bleu",
            score_bleu,
            summarise=summarise_bleu,
            options_schema=BLEU_OPTIONS,
            unit="",
            description="BLEU of all answers together, 0 to 100, by sacrebleu.",
            check=check,
        ),
        Evaluator(
            "chrf",
            score_chrf,
            options_schema=CHRF_OPTIONS,
            unit="",
            description="chrF, averaged over the answers, 0 to 100, by sacrebleu.",
            check=check,
        ),
    ]
