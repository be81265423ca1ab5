"""General abilities before and after training, side by side: what was lost, by rules.

The fall of a figure is written as a share: for instructions followed, base minus tuned; for general text, the fall of
the (geometric) mean probability of a token, 1 - perplexity of base / perplexity of tuned. So one `max_drop` fits both.
"""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from typing import Any

from core.evaluation.probing import BASE, LABELS, TUNED
from core.evaluation.statistics import (
    bootstrap,
    bootstrap_mean,
    counts_of,
    interval_of,
    is_binary,
    mcnemar,
    newcombe_paired,
    permutation,
)
from core.results import ProbeReport
from core.rounding import percent_of
from core.types import Plan


def judge_forgetting(plan: Plan, probes: Mapping[str, ProbeReport]) -> dict[str, Any] | None:
    """Base and tuned side by side, JSON-ready (`forgetting` in schemas/run.json); None unless both were probed.

    A drop is shown where its 95 % interval lies above zero. Where the recipe sets `max_drop`, a shown drop that is no
    larger is `within`; a larger one has not passed.
    """
    if BASE not in probes or TUNED not in probes:
        return None
    forgetting = plan.evaluation.forgetting
    allowed = forgetting.max_drop if forgetting else None
    base, tuned = probes[BASE], probes[TUNED]
    seed = plan.recipe["seed"] or 0
    parts = [
        _part(name, base.parts[name], tuned.parts[name], allowed, seed) for name in base.parts if name in tuned.parts
    ]
    outcomes = {part["outcome"] for part in parts}
    outcome = next((one for one in ("shown", "within") if one in outcomes), "not_shown")
    return {
        "probe": forgetting.probe.name if forgetting else None,
        "max_drop": allowed,
        "outcome": outcome,
        "passed": allowed is None or outcome != "shown",
        "words": _words(parts, outcome, allowed),
        "parts": parts,
        "answers": [
            {**{key: first[key] for key in ("name", "prompt")}, **{name: _told(one) for name, one in both.items()}}
            for first, second in zip(base.answers, tuned.answers, strict=True)
            for both in ({BASE: first, TUNED: second},)
        ],
    }


def _told(answer: Mapping[str, Any]) -> dict[str, Any]:
    return {"text": answer["answer"], "followed": answer["followed"]}


def _part(
    name: str,
    base: Sequence[Mapping[str, float]],
    tuned: Sequence[Mapping[str, float]],
    allowed: float | None,
    seed: int,
) -> dict[str, Any]:
    found = _text_part(base, tuned, seed) if "nll" in base[0] else _share_part(base, tuned, seed)
    low = found["interval"][0] if found["interval"] else None
    outcome = "not_shown"
    if low is not None and low > 0:
        outcome = "within" if allowed is not None and found["drop"] <= allowed else "shown"
    return {"name": name, "label": LABELS.get(name, name), "n": len(base), **found, "outcome": outcome}


def _text_part(base: Sequence[Mapping[str, float]], tuned: Sequence[Mapping[str, float]], seed: int) -> dict[str, Any]:
    def loss(rows: Sequence[Mapping[str, float]], drawn: Sequence[int]) -> float:
        return math.fsum(rows[i]["nll"] for i in drawn) / max(math.fsum(rows[i]["tokens"] for i in drawn), 1.0)

    def drop(drawn: Sequence[int]) -> float:
        return 1.0 - math.exp(min(loss(base, drawn) - loss(tuned, drawn), 50.0))

    everything = range(len(base))
    interval = bootstrap(drop, len(base), seed=seed)
    differences = [second["nll"] - first["nll"] for first, second in zip(base, tuned, strict=True)]
    return {
        "unit": "perplexity",
        "base": math.exp(min(loss(base, everything), 700.0)),
        "tuned": math.exp(min(loss(tuned, everything), 700.0)),
        "drop": drop(everything),
        "interval": list(interval) if interval else None,
        "p_value": permutation(differences, seed=seed),
    }


def _share_part(base: Sequence[Mapping[str, float]], tuned: Sequence[Mapping[str, float]], seed: int) -> dict[str, Any]:
    first, second = ([next(iter(row.values())) for row in rows] for rows in (base, tuned))
    own = {f"{name}_interval": interval_of(scores, seed=seed) for name, scores in ((BASE, first), (TUNED, second))}
    differences = [a - b for a, b in zip(first, second, strict=True)]
    interval: tuple[float, float] | None
    if is_binary([*first, *second]):
        both, only_base, only_tuned, neither = counts_of(first, second)
        interval, p_value = newcombe_paired(both, only_base, only_tuned, neither), mcnemar(only_base, only_tuned)
    else:
        interval, p_value = bootstrap_mean(differences, seed=seed), permutation(differences, seed=seed)
    return {
        "unit": "share",
        "base": math.fsum(first) / len(first),
        "tuned": math.fsum(second) / len(second),
        "drop": math.fsum(differences) / len(differences),
        "interval": list(interval) if interval else None,
        "p_value": p_value,
        **{name: list(value) if value else None for name, value in own.items()},
    }


def _words(parts: Sequence[Mapping[str, Any]], outcome: str, allowed: float | None) -> str:
    figures = "; ".join(_said(part) for part in parts if outcome == "not_shown" or part["outcome"] == outcome)
    opening = {
        "not_shown": "no forgetting shown",
        "within": f"forgetting shown, but no more than the {100 * (allowed or 0):g} % allowed",
        "shown": "forgetting shown" + (f", more than the {100 * allowed:g} % allowed" if allowed is not None else ""),
    }[outcome]
    return f"{opening}: {figures}"


def _said(part: Mapping[str, Any]) -> str:
    if part["unit"] == "perplexity":
        return f"{part['label']} {part['base']:.4g} → {part['tuned']:.4g}"
    return f"{part['label']} {percent_of(part['base'])} % → {percent_of(part['tuned'])} %"
