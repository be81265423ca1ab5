"""The plan: a recipe with every name resolved to a component and every default taken."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import TYPE_CHECKING, Any

from core.types.components import Adapter, DatasetFormat, Evaluator, Generator, Logger, Trainer
from core.types.examples import KeyPath, Options

if TYPE_CHECKING:
    from core.audit.facts import CheckPlan
    from core.host import Host
    from core.lock import Lock
    from core.probes import Probe
    from core.recipe import Recipe


@dataclass(frozen=True)
class DatasetPlan:
    """One entry of a list of data sets: where its rows are and the format, with options, that reads them.

    path: absolute local path, or a hub id / URL as written. key: where the entry stands in the recipe, for messages.
    """

    path: str
    format: DatasetFormat
    options: Options
    key: KeyPath


@dataclass(frozen=True)
class MetricPlan:
    """One requested metric. name: how it is called in the report (the type, with a suffix if used twice).

    plugin: which plugin brings it.
    """

    name: str
    evaluator: Evaluator
    options: Options
    plugin: str = ""


@dataclass(frozen=True)
class ForgettingPlan:
    """The probe of general abilities, and the largest drop that is allowed (None: reported, never refused)."""

    probe: Probe
    max_drop: float | None = None


@dataclass(frozen=True)
class ColumnPlan:
    """One column of the comparison. name: what it is called; options: e.g. `shots`, `instruction`, `load_in_4bit`.

    kind: what answers: `base`, `prompted` (the base with a better prompt), `model` (another one), `tuned`, or `merged`
    (the tuned model with its adapter in the weights); the name where left out.
    """

    name: str
    options: Options = field(default_factory=dict)
    kind: str = ""

    def __post_init__(self) -> None:
        if not self.kind:
            object.__setattr__(self, "kind", self.name)

    @property
    def untuned(self) -> bool:
        """Whether it can be scored before training: no weight of it comes from this run."""
        return self.kind in ("base", "prompted", "model")


# in a gate: the better of the columns that answer with the untuned base
BEST_UNTUNED = "best_untuned"


@dataclass(frozen=True)
class GatePlan:
    """What a metric has to reach. rule: `min_gain`, `at_least` or `at_most`. column: the one that is judged.

    over: with `min_gain`, the column to gain over, or `best_untuned`. confidence: of the interval that has to keep to
    the bound as a whole; None where the figure alone decides.
    """

    metric: str
    rule: str
    bound: float
    column: str = "tuned"
    over: str | None = None
    confidence: float | None = None


@dataclass(frozen=True)
class EvaluationPlan:
    """What is scored: held-out data, metrics, columns, and the decoding that all columns share."""

    datasets: tuple[DatasetPlan, ...] = ()
    metrics: tuple[MetricPlan, ...] = ()
    columns: tuple[ColumnPlan, ...] = ()
    gates: tuple[GatePlan, ...] = ()
    repeats: int = 1
    max_new_tokens: int = 256
    batch_size: int | None = None  # None: found by length, halved when memory runs out
    latency_sample: int = 20
    limit: int | None = None
    slice_by: tuple[str, ...] = ()
    forgetting: ForgettingPlan | None = None
    lm_eval: Mapping[str, Any] | None = None
    price: Mapping[str, Any] | None = None
    stop_settled: bool = False
    generator: Generator | None = None


@dataclass(frozen=True)
class Plan:
    """A recipe with every name resolved to a component and every default taken. `plan.recipe["key"]` reads a value.

    base_model: hub id, local folder, `.gguf` file or `package://` address, resolved to an absolute path where local.
    host: what the names were looked up in. lock: what the run is bound to, or None. shape_for: a device type, for which
    `load_base` then makes the model's shapes alone, without weights; the planner's. shape_tokens: how many tokens the
    tokenizer has, where the planner knows.
    """

    recipe: Recipe
    base_model: str
    output_dir: Path
    adapter: Adapter
    trainer: Trainer
    datasets: tuple[DatasetPlan, ...]
    validation: tuple[DatasetPlan, ...]
    evaluation: EvaluationPlan
    loggers: tuple[Logger, ...] = ()
    checks: tuple[CheckPlan, ...] = ()
    overwrite: bool = False
    resume_from: Path | None = None
    trust_remote_code: bool = False
    host: Host | None = None
    lock: Lock | None = None
    shape_for: str | None = None
    shape_tokens: int | None = None
