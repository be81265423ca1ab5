"""Finished runs held side by side on the items that they share."""

from __future__ import annotations

from core.comparison.judge import side_by_side
from core.comparison.runs import FinishedRun, load_run, shared_items
from core.comparison.show import comparison_page, comparison_text

__all__ = ["FinishedRun", "comparison_page", "comparison_text", "load_run", "shared_items", "side_by_side"]
