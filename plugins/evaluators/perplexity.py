"""`perplexity`: how surprised the model is by the reference answers, given the prompts."""

from __future__ import annotations

import math
from collections.abc import Sequence

from core import Evaluator, Item, hookimpl
from core.types import Options

LARGEST_EXPONENT = 700.0  # above it a double overflows


def score(prediction: str, item: Item, options: Options) -> dict[str, float]:
    """Perplexity of this item's reference, its loss in nats per token, and what they are made of."""
    nll, tokens = item.facts.get("nll"), item.facts.get("tokens", 0.0)
    if nll is None or not tokens:
        return {}
    return {"perplexity": _perplexity(nll, tokens), "loss": nll / tokens, "nll": nll, "tokens": tokens}


def summarise(scores: Sequence[dict[str, float]], options: Options) -> dict[str, float]:
    """Over all tokens together: long references weigh more than short ones."""
    nll, tokens = math.fsum(score["nll"] for score in scores), math.fsum(score["tokens"] for score in scores)
    return {"perplexity": _perplexity(nll, tokens), "loss": nll / tokens, "tokens": tokens}


def _perplexity(nll: float, tokens: float) -> float:
    return math.exp(min(nll / tokens, LARGEST_EXPONENT))


@hookimpl
def evaluators() -> list[Evaluator]:
    return [
        Evaluator(
            "perplexity",
            score,
            summarise=summarise,
            higher_is_better=False,
            unit="",
            needs=("likelihood",),
            description="Perplexity of the reference answers, per token.",
        )
    ]
