"""What a run leaves for people and programs: run.json, predictions.jsonl, report.html, a model card, and a table."""

from __future__ import annotations

from core.report.write import rerender, write_report

__all__ = ["rerender", "write_report"]
