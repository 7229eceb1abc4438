"""The parts of the operators' command line that need no service: pace, spans, lines, plans, endings, schemas."""

from __future__ import annotations

import json
import threading
from dataclasses import replace
from importlib import resources

import jsonschema
import pytest
from hypothesis import given
from hypothesis import strategies as st

from reliable_write.cli.bulk import INTERRUPTED, Ended, Outcome, Pace, Result
from reliable_write.cli.exits import CommandError, ExitCode
from reliable_write.cli.listing import Filters, Listing, Row, parse_span
from reliable_write.cli.plans import Plan, Reviewed
from reliable_write.cli.render_writes import list_lines, watch_lines
from reliable_write.explain import duration
from tests.unit.fakes import ManualTime

PLACE = {"system_table": "rw", "region": "r", "endpoint_url": "http://e"}


@pytest.mark.parametrize("rate", [0.5, 1.0, 7.0, 100.0])
def test_a_rate_is_kept_from_the_first_write_to_the_last(rate: float) -> None:
    time, stop = ManualTime(), threading.Event()
    pace = Pace(time, rate)
    begun = 0
    for _ in range(40):
        pace.wait(pace.round_writes, stop)
        begun += pace.round_writes
        assert begun <= rate * time.elapsed + pace.round_writes + 1e-6
    assert time.elapsed == pytest.approx((begun - pace.round_writes) / rate, abs=0.2)


def test_without_a_rate_nobody_waits_and_a_stop_is_heard_at_once() -> None:
    time, stop = ManualTime(), threading.Event()
    Pace(time, None).wait(1000, stop)
    assert time.elapsed == 0
    slow = Pace(time, 0.1)
    slow.wait(1, stop)
    stop.set()
    slow.wait(1, stop)
    assert time.elapsed == 0


@pytest.mark.parametrize(
    ("text", "seconds"), [("0s", 0), ("90", 90), ("90s", 90), ("10m", 600), ("1.5h", 5400), ("2d", 172_800)]
)
def test_spans(text: str, seconds: float) -> None:
    assert parse_span(text) == seconds


@pytest.mark.parametrize("text", ["", "soon", "-1s", "1w", "1 h 2 m", "1e3"])
def test_what_is_no_span_is_a_usage_error(text: str) -> None:
    with pytest.raises(CommandError) as refused:
        parse_span(text)
    assert refused.value.code is ExitCode.USAGE


@pytest.mark.parametrize(
    ("seconds", "told"),
    [(-5, "0 s"), (59.9, "59 s"), (60, "1 min"), (3599, "59 min"), (3660, "1 h 01 min"), (90_000, "1 d 1 h")],
)
def test_durations_are_told_in_the_units_that_matter(seconds: float, told: str) -> None:
    assert duration(seconds) == told


ROW = Row("0" * 36, "quarantined", 99_999.0, 12, 3, "host:1", None, "r" * 200, ("orders", "stock"))


@given(width=st.integers(min_value=72, max_value=200), age_seconds=st.floats(0, 90 * 86_400))
def test_no_line_of_a_list_is_wider_than_the_terminal(width: int, age_seconds: float) -> None:
    lines = list(list_lines([replace(ROW, age_seconds=age_seconds)], width))
    assert max(line.cell_len for line in lines) <= width
    assert any("rrr" in line.plain for line in lines)


@given(width=st.integers(min_value=72, max_value=200), unread=st.booleans())
def test_a_watched_list_fits_and_says_when_it_is_not_complete(width: int, unread: bool) -> None:
    """An outage must not look like a journal that was emptied."""
    shards = ("J#000: unreachable (EndpointConnectionError) on table reliable_write",) * 64 if unread else ()
    lines = list(watch_lines(Listing((ROW,) * 2000, shards), 1_800_000_000_000, width))
    assert max(line.cell_len for line in lines) <= width
    assert ("NOT COMPLETE: 64 shards" in lines[1].plain) == unread


def test_a_list_for_a_program_is_one_uncut_line_for_each_entry() -> None:
    head, line = list_lines([ROW], None)
    assert "r" * 200 in line.plain
    assert head.plain.startswith("write id")


def test_an_empty_filter_matches_all_and_an_age_never_what_has_none() -> None:
    unread = Row("x", "unreadable")
    assert Filters().match(unread)
    assert not Filters().any
    assert not Filters(older_than_seconds=1).match(unread)
    assert Filters(older_than_seconds=0).any


def outcome(*endings: Ended, of: int | None = None, stopped: str = "") -> Outcome:
    results = tuple(Result(str(n), ended) for n, ended in enumerate(endings))
    writes = tuple(Reviewed(str(n), 0) for n in range(of if of is not None else len(endings)))
    return Outcome(Plan("retry", "why", PLACE, writes), results, stopped)


@pytest.mark.parametrize(
    ("ended", "code"),
    [
        (outcome(Ended.DONE, Ended.DONE), ExitCode.DONE),
        (outcome(), ExitCode.DONE),
        (outcome(Ended.TOO_LATE), ExitCode.TOO_LATE),
        (outcome(Ended.TOO_LATE, Ended.TOO_LATE), ExitCode.TOO_LATE),
        (outcome(Ended.NOT_FOUND), ExitCode.NOT_FOUND),
        (outcome(Ended.FAILED), ExitCode.SERVICE),
        (outcome(Ended.FAILED, Ended.FAILED, of=9, stopped="unreachable"), ExitCode.SERVICE),
        (outcome(Ended.DONE, Ended.TOO_LATE), ExitCode.PARTLY),
        (outcome(Ended.DONE, of=2, stopped=INTERRUPTED), ExitCode.PARTLY),
        (outcome(of=2, stopped=INTERRUPTED), ExitCode.PARTLY),
        (outcome(Ended.TOO_LATE, of=2, stopped=INTERRUPTED), ExitCode.PARTLY),
    ],
)
def test_one_cause_for_all_has_its_own_exit_code_and_a_mixture_is_partly(ended: Outcome, code: ExitCode) -> None:
    assert ended.exit_code is code


def test_what_failed_or_was_not_begun_remains() -> None:
    left = outcome(Ended.DONE, Ended.FAILED, Ended.TOO_LATE, of=5, stopped=INTERRUPTED).remaining
    assert [write.write_id for write in left] == ["1", "3", "4"]


def test_every_schema_in_the_package_is_a_schema_that_allows_nothing_unnamed() -> None:
    files = [file for file in (resources.files("reliable_write.cli") / "schemas").iterdir() if file.is_file()]
    assert len(files) > 15
    for file in files:
        schema = json.loads(file.read_text())
        jsonschema.Draft202012Validator.check_schema(schema)
        assert (schema["$id"], schema["additionalProperties"]) == (file.name, False)
        assert set(schema["required"]) <= set(schema["properties"])
