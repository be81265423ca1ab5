"""What the stages of a run hand on at their end: what was trained, what was answered, how it was scored."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from core.types import Module


@dataclass(frozen=True)
class TrainResult:
    """What training did. losses: mean loss per trained token of each logged step, in nats. tokens: trained tokens seen.
    history: the logged records (step, loss, learning_rate, ...). stopped: None, or why training ended early.
    generation: the sample scored by generation meanwhile, if any; its figures stand in the history as `eval_<metric>`.
    best: what chose the checkpoint (metric, value, step), where the best one was loaded at the end.
    earlier_seconds: what the processes lasted that a resumed run goes on from; seconds and peak_bytes cover them.
    start_bytes: what peak_bytes began with, before there was an optimizer; 0 where that is not known.
    division: micro_batch_size and gradient_accumulation_steps where they are not the recipe's own: chosen, or halved.
    plan: what was to be expected: predicted_bytes beside measured_bytes, parts, predicted_seconds.
    streamed: of each data set that was read while training, how many rows were read and left out."""

    model: Module
    losses: Sequence[float]
    steps: int = 0
    seconds: float = 0.0
    tokens: int = 0
    parameters_trained: int = 0
    parameters_total: int = 0
    peak_bytes: int = 0
    start_bytes: int = 0
    history: Sequence[Mapping[str, Any]] = ()
    stopped: str | None = None
    generation: Mapping[str, Any] | None = None
    best: Mapping[str, Any] | None = None
    earlier_seconds: float = 0.0
    division: Mapping[str, int] | None = None
    plan: Mapping[str, Any] | None = None
    streamed: Sequence[Mapping[str, Any]] = ()


@dataclass(frozen=True)
class Generation:
    """One generated answer. text: without the end-of-turn mark. tokens: how many. stopped: it ended by itself.
    settled: it was ended because no continuation could have changed a score."""

    text: str
    tokens: int
    stopped: bool
    settled: bool = False


@dataclass(frozen=True)
class MetricResult:
    """One metric of one column. value: the compared figure; summary: all figures; interval: 95 % interval of `value`
    or None; scores: one per item in item order, None where the metric does not apply. items: all figures of each item,
    {} where it does not apply. details: what stands beside the figures (JSON). slices: field, then value. options: as
    completed from the items, for summing up again."""

    value: float | None
    summary: Mapping[str, float]
    interval: tuple[float, float] | None
    scores: Sequence[float | None]
    n: int
    items: Sequence[Mapping[str, float]] = ()
    details: Mapping[str, Any] = field(default_factory=dict)
    options: Mapping[str, Any] = field(default_factory=dict)
    slices: Mapping[str, Mapping[str, SliceResult]] = field(default_factory=dict)


@dataclass(frozen=True)
class SliceResult:
    """One metric over the items of a slice: the compared figure, its 95 % interval, and how many items have one."""

    value: float | None
    interval: tuple[float, float] | None
    n: int


@dataclass(frozen=True)
class ColumnReport:
    """One scored column: an answer per item, the metrics, and facts to state beside them (dtype, quantisation, merged,
    seconds spent, tokens per answer, the prompt's form)."""

    name: str
    generations: Sequence[Generation]
    metrics: Mapping[str, MetricResult]
    facts: Mapping[str, Any] = field(default_factory=dict)


@dataclass(frozen=True)
class ProbeReport:
    """General abilities of one model. parts: per part ("text", "instructions", an lm_eval task) the figures of each of
    its items; answers: what was generated, for the report."""

    parts: Mapping[str, Sequence[Mapping[str, float]]]
    answers: Sequence[Mapping[str, Any]] = ()


@dataclass(frozen=True)
class EvalReport:
    """The scored columns by name, in the recipe's order. probes: general abilities of `base` and `tuned`."""

    columns: Mapping[str, ColumnReport] = field(default_factory=dict)
    probes: Mapping[str, ProbeReport] = field(default_factory=dict)


@dataclass(frozen=True)
class Repeat:
    """One of several trainings that differ in their seed alone, with the tuned column it gave."""

    seed: int
    column: ColumnReport


@dataclass(frozen=True)
class RunReport:
    """The finished run: the content of `run.json`, and where the files lie."""

    values: Mapping[str, Any]
    output_dir: Path
    exit_code: int = 0
