"""`classification`: F1 per label and over the labels, with the confusion matrix; other answers are wrong."""

from __future__ import annotations

import math
from collections import Counter
from collections.abc import Mapping, Sequence
from typing import Any

from core import Evaluator, Item, RowError, hookimpl
from core.types import Options
from plugins.evaluators.f1 import f1_of, mean_of

NAME = "classification"
UNKNOWN = -1  # the number of an answer that is no label
SHOWN = 20
OPTIONS: dict[str, Any] = {
    "labels": {
        "type": "array",
        "items": {"type": "string", "minLength": 1},
        "minItems": 2,
        "uniqueItems": True,
        "description": "All labels there are; the references' own, sorted, if left out.",
    },
    "average": {
        "type": "string",
        "enum": ["macro", "micro", "weighted"],
        "default": "macro",
        "description": "The compared figure: the mean of the labels' F1 (macro), the share of right answers (micro), "
        "or the mean weighted by how often a label occurs (weighted).",
    },
    "casefold": {"type": "boolean", "default": False, "description": "Upper and lower case count as equal."},
}


def score(prediction: str, item: Item, options: Options) -> dict[str, float]:
    """1 if the answer is the expected label; with the numbers of both labels, -1 for an answer that is none."""
    numbers = _numbers(options.get("labels") or [item.references[0].strip()], options)
    expected = numbers[_plain(item.references[0], options)]
    answered = numbers.get(_plain(prediction, options), UNKNOWN)
    return {
        NAME: float(answered == expected),
        "unknown": float(answered == UNKNOWN),
        "expected": float(expected),
        "answered": float(answered),
    }


def summarise(scores: Sequence[dict[str, float]], options: Options) -> dict[str, float]:
    """F1 by the three averages, the share of right answers, and the share of answers that are no label."""
    figures = _per_label(_pairs(scores))
    total = sum(support for *_, support in figures.values())
    # a label that neither occurs nor is answered has no F1
    each = [(f1, support) for _, _, f1, support in figures.values()]
    averages = {
        "macro": math.fsum(f1 for f1, _ in each) / len(each),
        "weighted": math.fsum(f1 * support for f1, support in each) / total,
        "micro": mean_of(scores, NAME),
    }
    return {
        NAME: averages[str(options.get("average", "macro"))],
        "macro_f1": averages["macro"],
        "weighted_f1": averages["weighted"],
        "accuracy": averages["micro"],
        "unknown": mean_of(scores, "unknown"),
    }


def details(predictions: Sequence[str], items: Sequence[Item], options: Options) -> dict[str, Any]:
    """The confusion matrix (rows: expected, columns: answered, the last one: no label), figures per label, and the most
    frequent answers that are no label."""
    labels = list(options["labels"])
    numbers = _numbers(labels, options)
    pairs: Counter[tuple[int, int]] = Counter()
    strangers: Counter[str] = Counter()
    for prediction, item in zip(predictions, items, strict=True):
        answered = numbers.get(_plain(prediction, options), UNKNOWN)
        pairs[numbers[_plain(item.references[0], options)], answered] += 1
        if answered == UNKNOWN:
            strangers[prediction.strip()[:200]] += 1
    columns = [*range(len(labels)), UNKNOWN]
    return {
        "labels": labels,
        "confusion": [[pairs[row, column] for column in columns] for row in range(len(labels))],
        "per_label": {
            labels[number]: {"precision": precision, "recall": recall, "f1": f1, "support": support}
            for number, (precision, recall, f1, support) in sorted(_per_label(pairs).items())
        },
        "reasons": {"unknown_label": strangers.total()},
        "unknown_labels": [{"answer": text, "count": count} for text, count in strangers.most_common(SHOWN)],
    }


def check(item: Item, options: Options) -> None:
    """Raise `RowError` for a reference that is none of the labels that the recipe names."""
    labels = options.get("labels")
    if labels and _plain(item.references[0], options) not in _numbers(labels, options):
        shown = ", ".join(map(str, labels[:10])) + (", ..." if len(labels) > 10 else "")
        raise RowError(f"the reference {item.references[0][:80]!r} is none of the labels {shown}")


def complete(items: Sequence[Item], options: Options) -> Options:
    """The options with the labels that occur in the references, where the recipe names none."""
    labels = options.get("labels")
    if not labels:
        spelt = {_plain(item.references[0], options): item.references[0].strip() for item in reversed(items)}
        labels = sorted(spelt.values())
    return {**options, "labels": list(labels)}


def settled(text: str, item: Item, options: Options) -> bool:
    """Whether the answer is no label however it goes on."""
    begun = _plain(text, options)
    return not any(label.startswith(begun) for label in _numbers(options["labels"], options))


def _plain(text: str, options: Options) -> str:
    return text.strip().casefold() if options.get("casefold") else text.strip()


def _numbers(labels: Sequence[str], options: Options) -> dict[str, int]:
    return {_plain(label, options): number for number, label in enumerate(labels)}


def _pairs(scores: Sequence[Mapping[str, float]]) -> Counter[tuple[int, int]]:
    return Counter((int(one["expected"]), int(one["answered"])) for one in scores)


def _per_label(pairs: Mapping[tuple[int, int], int]) -> dict[int, tuple[float, float, float, int]]:
    """(precision, recall, F1, support) of every label that occurs among the references or the answers."""
    right: Counter[int] = Counter()
    expected: Counter[int] = Counter()
    answered: Counter[int] = Counter()
    for (wanted, given), count in pairs.items():
        expected[wanted] += count
        answered[given] += count
        if wanted == given:
            right[wanted] += count
    figures = {}
    for label in {*expected, *answered} - {UNKNOWN}:
        if expected[label] + answered[label]:
            f1, precision, recall = f1_of(right[label], answered[label], expected[label])
            figures[label] = (precision, recall, f1, expected[label])
    return figures


@hookimpl
def evaluators() -> list[Evaluator]:
    return [
        Evaluator(
            NAME,
            score,
            summarise=summarise,
            options_schema=OPTIONS,
            description="F1 over strict labels, with the confusion matrix; answers that are no label are counted.",
            check=check,
            complete=complete,
            details=details,
            settled=settled,
        )
    ]
