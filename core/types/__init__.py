"""The values that flow through a run, and the components a plugin may offer.

Everything here is a plain frozen dataclass, so a plugin is a name and a few functions. Nothing in these modules imports
torch: a component is looked up and checked long before any weight is loaded.
"""

from __future__ import annotations

from typing import TYPE_CHECKING

from core.types.components import (
    Adapter,
    DatasetFormat,
    Evaluator,
    GenerationRequest,
    Generator,
    Logger,
    Trainer,
    Training,
    Workload,
)
from core.types.examples import Conversation, Data, Example, Item, KeyPath, Options, Row, Schema, Segment
from core.types.plans import (
    BEST_UNTUNED,
    ColumnPlan,
    DatasetPlan,
    EvaluationPlan,
    ForgettingPlan,
    GatePlan,
    MetricPlan,
    Plan,
)

if TYPE_CHECKING:
    from core.types.examples import Module as Module
    from core.types.examples import Tokenizer as Tokenizer

__all__ = [
    "BEST_UNTUNED",
    "Adapter",
    "ColumnPlan",
    "Conversation",
    "Data",
    "DatasetFormat",
    "DatasetPlan",
    "EvaluationPlan",
    "Evaluator",
    "Example",
    "ForgettingPlan",
    "GatePlan",
    "GenerationRequest",
    "Generator",
    "Item",
    "KeyPath",
    "Logger",
    "MetricPlan",
    "Options",
    "Plan",
    "Row",
    "Schema",
    "Segment",
    "Trainer",
    "Training",
    "Workload",
]
