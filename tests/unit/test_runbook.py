"""The runbook has a place for each state, finding and alarm, and names nothing that does not exist."""

from __future__ import annotations

import re
from pathlib import Path

import pytest

from monitor.metrics import PREFIX
from reliable_write.cli.exits import ExitCode
from reliable_write.entry import State
from reliable_write.events import Event
from reliable_write.operators import Found

ROOT = Path(__file__).parents[2]
PAGE = (ROOT / "docs/runbook.md").read_text()
METRICS = (ROOT / "monitor/metrics.py").read_text()
SECTIONS = re.findall(r"^### (.*?)\n(.*?)(?=^##|\Z)", PAGE, re.DOTALL | re.MULTILINE)


@pytest.mark.parametrize("state", [*State, "unreadable"])
def test_each_state_has_a_section(state: str) -> None:
    assert state.capitalize() in {title for title, _ in SECTIONS}


@pytest.mark.parametrize("found", Found)
def test_each_finding_has_a_row(found: Found) -> None:
    assert f"| {found} |" in PAGE


@pytest.mark.parametrize(("title", "text"), SECTIONS)
def test_each_section_says_what_it_means_what_holds_and_what_to_do(title: str, text: str) -> None:
    if title != "No entry":
        assert "*Holds:*" in text
    assert {"*Means:*", "*Do:*"} <= set(re.findall(r"\*\w+:\*", text)), title


def test_metrics_and_events_that_are_named_exist() -> None:
    named = set(re.findall(rf"`{PREFIX}_(\w+)`", PAGE))
    assert len(named) > 8
    for name in named:
        assert f'"{name.removesuffix("_total")}"' in METRICS or f"_{name}" in METRICS, name
    words = set(re.findall(r"`([a-z]+(?:_[a-z]+)+)`", PAGE))
    events = {word for word in words if not word.startswith(PREFIX) and word != "_rw"}
    assert events <= {event.value for event in Event}


def test_each_event_that_wants_somebody_to_look_is_in_the_runbook() -> None:
    """Those a monitor or a service says as a warning or an error and that have no other page."""
    elsewhere = {
        *("write_committed", "write_applied", "write_pending", "write_refused", "scope_dropped", "scope_abandoned"),
        *("finished_entries_not_deleted", "entry_recovered", "entry_still_pending", "ghost_removed", "collected"),
        *("collection_on", "collection_off", "monitor_started", "monitor_drained"),
    }
    missing = {event.value for event in Event} - elsewhere
    assert {event for event in missing if f"`{event}`" not in PAGE} == set()


@pytest.mark.parametrize("code", ExitCode)
def test_each_exit_code_is_in_the_table(code: ExitCode) -> None:
    assert f"\n| {code.value} |" in PAGE
