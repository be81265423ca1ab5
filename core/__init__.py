"""Tunesmith: a recipe in, a fine-tuned model and the proof that it was worth it out.

All that a plugin author needs is importable from here; importing it stays light (no torch).
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

from core.audit.facts import CheckedExample, DataCheck, DataFacts, Finding, Watch
from core.errors import DataError, PluginError, Position, Problem, RecipeError, RowError, UserError
from core.hookspecs import hookimpl
from core.probes import Instruction, Probe
from core.results import Generation, TrainResult
from core.schema_files import load_fragment
from core.types import (
    Adapter,
    Conversation,
    Data,
    DatasetFormat,
    Evaluator,
    Example,
    GenerationRequest,
    Generator,
    Item,
    Logger,
    Plan,
    Segment,
    Trainer,
    Training,
    Workload,
)

if TYPE_CHECKING:
    from core.models import load_base, load_tokenizer
    from core.recipe import Recipe

__version__ = "0.1.0"

__all__ = [
    "Adapter",
    "CheckedExample",
    "Conversation",
    "Data",
    "DataCheck",
    "DataError",
    "DataFacts",
    "DatasetFormat",
    "Evaluator",
    "Example",
    "Finding",
    "Generation",
    "GenerationRequest",
    "Generator",
    "Instruction",
    "Item",
    "Logger",
    "Plan",
    "PluginError",
    "Position",
    "Probe",
    "Problem",
    "Recipe",
    "RecipeError",
    "RowError",
    "Segment",
    "TrainResult",
    "Trainer",
    "Training",
    "UserError",
    "Watch",
    "Workload",
    "hookimpl",
    "load_base",
    "load_fragment",
    "load_tokenizer",
]

_LAZY = {"load_base": "core.models", "load_tokenizer": "core.models", "Recipe": "core.recipe"}


def __getattr__(name: str) -> Any:
    """Import the heavy names only when they are used, so that `import core` needs no torch."""
    if name in _LAZY:
        import importlib

        return getattr(importlib.import_module(_LAZY[name]), name)
    raise AttributeError(f"module 'core' has no attribute {name!r}")
