"""What a run would take: parameters, memory, time; worked out from shapes alone, before a weight is loaded."""

from __future__ import annotations

from core.planner.device import process_bytes
from core.planner.expected import refuse_impossible, with_expectation
from core.planner.layout import Layout, lay_out

__all__ = ["Layout", "lay_out", "process_bytes", "refuse_impossible", "with_expectation"]
