"""The audit of the data: checks over all rows before anything heavy starts. Importing it stays light."""

from __future__ import annotations

from core.audit.facts import CheckedExample, CheckPlan, DataCheck, DataFacts, Finding, Watch
from core.audit.plan import planned_checks, with_checks
from core.audit.report import Audit, AuditEntry, AuditReport, audit, audit_lines, refuse_errors

__all__ = [
    "Audit",
    "AuditEntry",
    "AuditReport",
    "CheckPlan",
    "CheckedExample",
    "DataCheck",
    "DataFacts",
    "Finding",
    "Watch",
    "audit",
    "audit_lines",
    "planned_checks",
    "refuse_errors",
    "with_checks",
]
