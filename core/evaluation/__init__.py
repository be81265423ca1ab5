"""Scoring a model on held-out items: generation, metrics and intervals, one column at a time."""

from __future__ import annotations

from core.evaluation.evaluate import AFTER, BEFORE, evaluate, refuse_unscorable
from core.evaluation.verdict import baselines, verdict

__all__ = ["AFTER", "BEFORE", "baselines", "evaluate", "refuse_unscorable", "verdict"]
