"""Was fine-tuning worth it? The decision, made from the figures by rules; its words are in wording.py."""

from __future__ import annotations

from collections import Counter
from collections.abc import Mapping, Sequence
from typing import Any

from core.evaluation.forgetting import judge_forgetting
from core.evaluation.paired import comparable, compare, correct
from core.evaluation.slices import slice_items
from core.evaluation.wording import say_undecided, say_verdict
from core.results import ColumnReport, EvalReport
from core.types import Data, Item, MetricPlan, Plan

__all__ = ["baselines", "compare", "judge", "judges_answers", "verdict"]

TUNED = "tuned"
LEAKAGE = "leakage"  # the data check that looks for held-out rows among those that are trained on
CLOSED_SET = 1000  # more different answers than this are no set of labels to guess from


def baselines(items: Sequence[Item]) -> dict[str, Any] | None:
    """What needs no model: `chance` (guessing among the answers that occur) and `majority` (always the most frequent).

    None where the answers are no closed set: fewer than two items to an answer on average.
    """
    answers = Counter(item.references[0].strip() for item in items)
    if not items or 2 * len(answers) > len(items) or len(answers) > CLOSED_SET:
        return None
    answer, count = answers.most_common(1)[0]
    return {
        "answers": len(answers),
        "chance": 1 / len(answers),
        "majority": count / len(items),
        "majority_answer": answer,
    }


def judge(plan: Plan, report: EvalReport, data: Data, gates: Sequence[Mapping[str, Any]] = ()) -> dict[str, Any]:
    """`verdict`, `slices` and `forgetting` as they stand in run.json; the last is None where nothing was probed."""
    columns = report.columns
    forgetting = judge_forgetting(plan, report.probes)
    found = _deciding(plan, columns)
    slices = slice_table(plan, columns, data.test[: plan.evaluation.limit], found)
    trained_on = items_trained_on(data)
    return {
        "verdict": verdict(plan, columns, slices=slices, forgetting=forgetting, gates=gates, trained_on=trained_on),
        "slices": slices,
        "forgetting": forgetting,
    }


def verdict(
    plan: Plan,
    columns: Mapping[str, ColumnReport],
    *,
    slices: Mapping[str, Sequence[Mapping[str, Any]]] | None = None,
    forgetting: Mapping[str, Any] | None = None,
    gates: Sequence[Mapping[str, Any]] = (),
    trained_on: int = 0,
) -> dict[str, Any]:
    """The decision, JSON-ready: `words`, `outcome`, `metric`, `against` and `comparisons`.

    The first metric of the recipe that judges answers decides, against the best untuned column. outcome: `better` or
    `worse` if the 95 % interval of the paired difference leaves out zero and the p-value of the paired test, corrected
    for the number of metrics, is below 0.05, else `not_shown`; the same for every other metric. `no_test_set` and
    `not_compared` where there is nothing to decide on. trained_on: how many of the items the model was trained on.
    """
    if not columns:
        words = "No verdict: nothing was held back for testing; name a test set under evaluation.datasets."
        return _undecided("no_test_set", words, forgetting, gates)
    tuned, found = columns.get(TUNED), _deciding(plan, columns)
    if tuned is None or found is None:
        words = "No verdict: the recipe compares no tuned column with an untuned one; see evaluation.compare."
        return _undecided("not_compared", words, forgetting, gates)
    decisive, best = found
    if best is None:
        words = f"No verdict: {decisive.name.replace('_', ' ')} applies to no item."
        return _undecided("not_compared", words, forgetting, gates)
    comparisons = [
        compare(metric, tuned, column, seed=plan.recipe["seed"] or 0)
        for metric in plan.evaluation.metrics
        for column in columns.values()
        if column.name != TUNED and comparable(metric, tuned, column)
    ]
    for name in columns:
        correct([one for one in comparisons if one["against"] == name])
    chosen = next(one for one in comparisons if one["metric"] == decisive.name and one["against"] == best)
    others = [one for one in comparisons if one["against"] == best and one is not chosen]
    worse = worse_slices(slices or {})
    return {
        "outcome": chosen["outcome"],
        "words": say_verdict(
            plan,
            decisive,
            columns,
            best,
            chosen,
            others=others,
            worse=worse,
            forgetting=forgetting,
            gates=gates,
            trained_on=trained_on,
        ),
        "metric": decisive.name,
        "against": best,
        "comparisons": comparisons,
        "worse_slices": worse,
        "caveats": ["one seed: how much another training run would differ is not included"],
    }


def items_trained_on(data: Data) -> int:
    """How many held-out items are in the training data too, which the recipe has to allow. Validation examples that are
    trained on are none of them."""
    findings = (data.stats.get("audit") or {}).get("findings", ())
    items = {item.place for item in data.test}
    found = 0
    for finding in findings:
        if finding["check"] == LEAKAGE:
            # the first places of a finding are kept, and its count
            places = finding["places"]
            listed = sum(place in items for place in places)
            found += int(finding["count"]) if places and listed == len(places) else listed
    return found


def slice_table(
    plan: Plan,
    columns: Mapping[str, ColumnReport],
    items: Sequence[Item],
    deciding: tuple[MetricPlan, str | None] | None,
) -> dict[str, list[dict[str, Any]]]:
    """Per field of `slice_by` its values with the figures of every column, and on the deciding metric the comparison of
    the tuned column with the best untuned one, corrected for the number of values."""
    table: dict[str, list[dict[str, Any]]] = {}
    for field, parts in slice_items(items, plan.evaluation.slice_by).items():
        rows: list[dict[str, Any]] = []
        for value, places in parts.items():
            figures = {
                name: {
                    metric: {
                        "value": result.slices[field][value].value,
                        "interval": result.slices[field][value].interval,
                        "n": result.slices[field][value].n,
                    }
                    for metric, result in column.metrics.items()
                    if value in result.slices.get(field, {})
                }
                for name, column in columns.items()
            }
            comparisons = _slice_comparison(plan, columns, places, deciding)
            rows.append({"value": value, "items": len(places), "columns": figures, "comparisons": comparisons})
        correct([one for row in rows for one in row["comparisons"]])
        table[field] = rows
    return table


def worse_slices(slices: Mapping[str, Sequence[Mapping[str, Any]]]) -> list[dict[str, Any]]:
    """The slices on which tuning is shown to be worse, after correction for their number."""
    return [
        {"field": field, "value": row["value"], "items": row["items"], "difference": one["difference"]}
        for field, rows in slices.items()
        for row in rows
        for one in row["comparisons"]
        if one["outcome"] == "worse"
    ]


def judges_answers(metric: MetricPlan) -> bool:
    """Whether a metric judges what is answered, as opposed to speed or surprise."""
    return set(metric.evaluator.needs) <= {"choices"}


def _slice_comparison(
    plan: Plan,
    columns: Mapping[str, ColumnReport],
    places: Sequence[int],
    deciding: tuple[MetricPlan, str | None] | None,
) -> list[dict[str, Any]]:
    if deciding is None or deciding[1] is None or TUNED not in columns:
        return []
    metric, best = deciding[0], deciding[1]
    tuned, other = columns[TUNED], columns[best]
    both = (tuned.metrics[metric.name].scores, other.metrics[metric.name].scores)
    if not any(all(scores[place] is not None for scores in both) for place in places):
        return []
    return [compare(metric, tuned, other, seed=plan.recipe["seed"] or 0, among=places)]


def _undecided(
    outcome: str, words: str, forgetting: Mapping[str, Any] | None, gates: Sequence[Mapping[str, Any]]
) -> dict[str, Any]:
    return {
        "outcome": outcome,
        "words": say_undecided(words, forgetting, gates),
        "metric": None,
        "against": None,
        "comparisons": [],
        "worse_slices": [],
        "caveats": [],
    }


def _deciding(plan: Plan, columns: Mapping[str, ColumnReport]) -> tuple[MetricPlan, str | None] | None:
    """The metric that decides and the untuned column to beat (None where it has no figure); None without columns.

    The metric is the first that judges answers, else the first of all.
    """
    tuned = columns.get(TUNED)
    # other models, and copies of the tuned one, are shown beside it; the question is whether its base would have done
    others = {column.name for column in plan.evaluation.columns if column.kind not in ("base", "prompted")}
    untuned = {name: column for name, column in columns.items() if name != TUNED and name not in others}
    known = [m for m in plan.evaluation.metrics if all(m.name in column.metrics for column in columns.values())]
    decisive = next((metric for metric in known if judges_answers(metric)), known[0] if known else None)
    if tuned is None or not untuned or decisive is None:
        return None
    sign = 1 if decisive.evaluator.higher_is_better else -1
    scored = {
        name: column
        for name, column in untuned.items()
        if column.metrics[decisive.name].value is not None and comparable(decisive, tuned, column)
    }
    if not scored or tuned.metrics[decisive.name].value is None:
        return decisive, None
    return decisive, max(scored, key=lambda name: sign * (scored[name].metrics[decisive.name].value or 0.0))
