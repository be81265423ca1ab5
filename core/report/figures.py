"""How figures are written for people: the rows of the comparison, shared by terminal, page and model card."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from datetime import datetime
from typing import Any

from core.rounding import percent_of, rounded

LABELS = {"base": "base", "prompted": "base, prompted", "tuned": "fine-tuned"}
MISSING = "–"


def comparison_header(values: Mapping[str, Any]) -> list[str]:
    """The titles of the comparison's columns, in the order of `comparison_rows`."""
    return ["", *(column_label(values, name) for name in values["evaluation"])]


def column_label(values: Mapping[str, Any], name: str) -> str:
    """What a column is called for people."""
    facts = values["columns"].get(name, {})
    if facts.get("label"):
        return str(facts["label"])
    shots = facts.get("shots") if name == "prompted" else None
    return f"{LABELS[name]} ({len(shots)} examples)" if shots else LABELS.get(name, name)


def comparison_rows(values: Mapping[str, Any]) -> list[list[str]]:
    """One row per metric: its name and, per column, the figure with its 95 % interval; then how long answers are."""
    columns = values["evaluation"]
    rows = []
    for metric, about in values["metrics"].items():
        cells = [cell(columns[name].get(metric), about["unit"]) for name in columns]
        rows.append([_metric_label(metric), *cells])
    for fact, label, digits in (
        ("tokens_per_answer", "tokens per answer", 1),
        ("tokens_per_prompt", "tokens per prompt", 0),
    ):
        cells = [
            rounded(values["columns"][name][fact], digits) if values["columns"][name].get(fact) else MISSING
            for name in columns
        ]
        if any(cell != MISSING for cell in cells):
            rows.append([label, *cells])
    return rows + [row for row in [cost_row(values)] if row]


def cost_row(values: Mapping[str, Any]) -> list[str] | None:
    """The cost of 1,000 answers per column, where the recipe states prices."""
    facts = [values["columns"].get(name, {}) for name in values["evaluation"]]
    currency = next((one["currency"] for one in facts if "currency" in one), None)
    if currency is None:
        return None
    cells = [f"{one['cost_per_1000']:.4g}" if one.get("cost_per_1000") is not None else MISSING for one in facts]
    return [f"cost of 1,000 answers ({currency})", *cells]


def demands(values: Mapping[str, Any]) -> list[Mapping[str, Any]]:
    """What decides the exit code, each with `passed` and `words`: the gates, and forgetting where it has a bound."""
    forgetting = values.get("forgetting")
    found = list(values.get("gates", ()))
    if forgetting and forgetting["max_drop"] is not None:
        outcome = "passed" if forgetting["passed"] else "failed"
        found.append({"passed": forgetting["passed"], "words": f"forgetting: {outcome}, {forgetting['words']}"})
    return found


def run_rows(values: Mapping[str, Any]) -> list[tuple[str, str]]:
    """What the run took: (label, figure) pairs."""
    scored = values.get("scored")
    rows = [("held-out items", f"{values['items']:,}")]
    if scored is None or scored["trained_here"]:
        rows += _training_rows(values)
    else:
        rows.append(("time", f"{duration(values['seconds'])} scoring"))
    baselines = values["baselines"]
    if baselines:
        words = (
            f"chance {percent(baselines['chance'])}, always the most frequent answer {percent(baselines['majority'])}"
        )
        rows.insert(1, ("accuracy without a model", words))
    return rows


def _training_rows(values: Mapping[str, Any]) -> list[tuple[str, str]]:
    """What training took. Where nothing was trained but scored again, `seconds` are those of the scoring alone."""
    train, parameters = values["train"], values["parameters"]
    share = parameters["trained"] / parameters["total"] if parameters["total"] else 0.0
    after = "for this scoring" if values.get("scored") else "in all"
    best = train.get("best")
    kept = [("model kept", f"of step {best['step']:,}, the best by {best['metric'].replace('_', ' ')}")] if best else []
    return [
        ("tokens trained on", f"{train['tokens']:,} in {train['steps']:,} steps"),
        *kept,
        ("parameters trained", f"{parameters['trained']:,} of {parameters['total']:,} ({percent(share, 2)})"),
        ("time", f"{duration(train['seconds'])} training, {duration(values['seconds'])} {after}"),
        ("peak memory", size(values["memory"]["peak_bytes"])),
    ]


def notes(values: Mapping[str, Any]) -> list[str]:
    """What a reader must know of the comparison: how it was decoded, what was timed, which weights answered."""
    if not values["evaluation"]:
        return []
    generated = any(facts.get("decoding", "greedy") == "greedy" for facts in values["columns"].values())
    how = "decoded greedily" if generated else "nothing generated: the most likely choice stands for the answer"
    said = [f"In brackets: 95 % intervals. All columns answered the same held-out items, {how}."]
    timed = next((column["latency"]["n"] for column in values["evaluation"].values() if "latency" in column), 0)
    if timed:
        said.append(f"Latency: {timed} items, one at a time, after warming up.")
    for name, facts in values["columns"].items():
        if facts.get("model"):
            precision = ", ".join(str(facts[fact]) for fact in ("dtype", "quantisation") if facts.get(fact))
            said.append(f"{column_label(values, name)}: {facts['model']}" + (f" ({precision})." if precision else "."))
    said += [*_limits(values), *_latency_times(values)]
    said += [caveat[0].upper() + caveat[1:] + "." for caveat in values["verdict"].get("caveats", ())]
    return said


def _limits(values: Mapping[str, Any]) -> list[str]:
    """Answers that were cut off, examples that there are not, and prompts that could not show all examples."""
    said = []
    for name, facts in values["columns"].items():
        label, items = column_label(values, name), facts.get("items", values["items"])
        if facts.get("capped"):
            most = facts["max_new_tokens"]
            said.append(
                f"{label}: {facts['capped']} of {items} answers did not end by themselves within {most} tokens."
            )
        if facts.get("wanted", 0) > facts.get("shown", 0):
            said.append(
                f"{label}: {facts['wanted']} examples were asked for, and there are only {facts['shown']} rows to show."
            )
        if facts.get("shortened"):
            said.append(
                f"{label}: {facts['shortened']} of {items} prompts show fewer than {facts['shown']} examples, to fit."
            )
    return said


def _latency_times(values: Mapping[str, Any]) -> list[str]:
    """Whether the latencies were measured together, or minutes apart, when the machine may have been another."""
    times = {
        name: facts["latency_measured"] for name, facts in values["columns"].items() if "latency_measured" in facts
    }
    if len(set(times.values())) < 2:
        return []
    first, last = (datetime.fromisoformat(moment) for moment in (min(times.values()), max(times.values())))
    turns: list[str] = next(
        (facts["latency_in_turn"] for facts in values["columns"].values() if facts.get("latency_in_turn")), []
    )
    together = (
        f"item by item in turn for {' and '.join(column_label(values, name) for name in turns)}, " if turns else ""
    )
    apart = duration((last - first).total_seconds())
    return [f"Latencies were measured {together}up to {apart} apart: compare small differences with care."]


def figure(value: float | None, unit: str) -> str:
    """A metric's value in its unit: a share as per cent, seconds as such, anything else with four digits."""
    if value is None:
        return MISSING
    if unit == "share":
        return percent(value)
    return f"{rounded(value, 2)} s" if unit == "seconds" else f"{value:.4g}"


def percent(share: float, digits: int = 1) -> str:
    """`share` (0..1) as per cent, without a trailing `.0`."""
    text = percent_of(share, digits)
    return f"{text.rstrip('0').rstrip('.') if '.' in text else text} %"


def duration(seconds: float) -> str:
    """Seconds as `42 s`, `6 min 26 s` or `3 h 05 min`."""
    whole = round(seconds)
    if whole < 60:
        return f"{whole} s"
    if whole < 3600:
        return f"{whole // 60} min {whole % 60:02d} s"
    return f"{whole // 3600} h {whole % 3600 // 60:02d} min"


def size(count: int) -> str:
    """Bytes in GiB or MiB."""
    return f"{count / 2**30:.2f} GiB" if count >= 2**30 else f"{count / 2**20:.0f} MiB"


def cell(result: Mapping[str, Any] | None, unit: str) -> str:
    """A result with its interval, as it stands in a table."""
    return MISSING if result is None else with_interval(result["value"], result["interval"], unit)


def with_interval(value: float | None, interval: Sequence[float | None] | None, unit: str) -> str:
    """A figure with its 95 % interval in brackets, where there is one."""
    text = figure(value, unit)
    if value is None or not interval or None in interval:
        return text
    low, high = (figure(bound, unit).removesuffix(" %").removesuffix(" s") for bound in interval)
    # a dash before a minus could not be read
    return f"{text} ({low} to {high})" if high.startswith("-") or low.startswith("-") else f"{text} ({low}–{high})"


def _metric_label(metric: str) -> str:
    labels = {"latency": "latency per answer (median)", "token_f1": "token F1"}
    return labels.get(metric, metric.replace("_", " "))
