"""A sweep's and an audit's report as plain facts, for stdout and for what a scheduled run returns."""

from __future__ import annotations

import dataclasses
from typing import Any

from monitor.audits import AuditReport
from monitor.status import SweepReport


def facts_of_sweep(report: SweepReport) -> dict[str, Any]:
    """Ready for JSON: counts and seconds, no ids."""
    facts = {field.name: getattr(report, field.name) for field in dataclasses.fields(report)}
    facts["attempts"] = {result.value.replace(" ", "_"): count for result, count in report.attempts.items()}
    facts["unread_shards"] = list(report.unread_shards)
    return facts


def facts_of_audit(report: AuditReport) -> dict[str, Any]:
    """The same of an audit."""
    return dataclasses.asdict(report)
