"""`token_f1`: how many words answer and reference share.

The F1 of Rajpurkar et al., "SQuAD: 100,000+ Questions for Machine Comprehension of Text" (EMNLP 2016): words after
lower-casing and leaving out punctuation and the articles a, an and the; each counted as often as it occurs.
"""

from __future__ import annotations

import re
import string
from collections import Counter
from typing import Any

from core import Evaluator, Item, hookimpl
from core.types import Options
from plugins.evaluators.f1 import f1_of
from plugins.evaluators.references import OPTION, acceptable, check

ARTICLES = re.compile(r"\b(a|an|the)\b")
PUNCTUATION = str.maketrans("", "", string.punctuation)
OPTIONS: dict[str, Any] = {
    "drop_articles": {
        "type": "boolean",
        "default": True,
        "description": "Leave out a, an and the before comparing; switch it off for languages other than English.",
    },
    **OPTION,
}


def score(prediction: str, item: Item, options: Options) -> dict[str, float]:
    """The best F1 over the references, 0 to 1, with its precision and recall."""
    scored = [
        _overlap(_words(prediction, options), _words(reference, options)) for reference in acceptable(item, options)
    ]
    f1, precision, recall = max(scored)
    return {"token_f1": f1, "precision": precision, "recall": recall}


def _words(text: str, options: Options) -> list[str]:
    text = text.lower().translate(PUNCTUATION)
    return (ARTICLES.sub(" ", text) if options.get("drop_articles", True) else text).split()


def _overlap(predicted: list[str], expected: list[str]) -> tuple[float, float, float]:
    """(F1, precision, recall); all 1 where both are empty, 0 where one is."""
    return f1_of((Counter(predicted) & Counter(expected)).total(), len(predicted), len(expected))


@hookimpl
def evaluators() -> list[Evaluator]:
    description = "Words shared with the reference (F1)."
    return [Evaluator("token_f1", score, options_schema=OPTIONS, description=description, check=check)]
