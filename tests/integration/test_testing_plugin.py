"""The pytest plugin, in pytest runs of its own: its fixtures, and the tests it fails."""

from __future__ import annotations

import os
import subprocess
import sys

import pytest

from reliable_write.testing.engines import Engine
from tests.acceptance.test_docs import ROOT
from tests.plugin_process import PLUGIN

pytest_plugins = ["pytester"]

HEAD = """
import boto3, pytest
from reliable_write import ReliableWriter, ReliableWriteScope
from reliable_write.testing import FaultPlan, SimulatedCrash, crash

@pytest.fixture
def reliable_write_tables():
    return {"kit-orders": "id", "kit-parcels": ("id", "number:N")}

def place(writer):
    with ReliableWriteScope(writer) as scope:
        scope.put_item("kit-orders", Item={"id": "o-1"})
        scope.put_item("kit-parcels", Item={"id": "o-1", "number": 1})
        scope.commit()

def die(writer):
    with FaultPlan(writer.client) as plan, pytest.raises(SimulatedCrash):
        plan.on("PutItem", crash, "after", times=1)
        place(writer)
"""


class Runner:
    """Runs one file of tests in another process, on an engine that runs already."""

    def __init__(self, pytester: pytest.Pytester, engine: Engine, monkeypatch: pytest.MonkeyPatch) -> None:
        monkeypatch.setenv("PYTHONPATH", str(ROOT))
        self._pytester = pytester
        self._engine = engine

    def __call__(self, tests: str, *arguments: str, head: str = HEAD) -> pytest.RunResult:
        self._pytester.makepyfile(head + tests)
        given = ("-p", "no:cacheprovider", "-W", "error", "--reliable-write-endpoint", self._engine.endpoint_url)
        return self._pytester.runpytest_subprocess(*PLUGIN, *given, *arguments)


@pytest.fixture
def run(dynoxide: Engine, pytester: pytest.Pytester, monkeypatch: pytest.MonkeyPatch) -> Runner:
    """The engine first: it is looked for from the current directory, which `pytester` changes."""
    return Runner(pytester, dynoxide, monkeypatch)


def test_the_fixtures_work_together(run: Runner) -> None:
    result = run("""
def test_one(reliable_write_sandbox, reliable_write_writer):
    place(reliable_write_writer)
    assert reliable_write_sandbox.items("kit-orders") == [{"id": "o-1"}]
    assert reliable_write_sandbox.item("kit-parcels", number=1) == {"id": "o-1", "number": 1}

def test_each_begins_empty_and_the_environment_leads_there(reliable_write_sandbox):
    assert reliable_write_sandbox.items("kit-orders") == []
    with ReliableWriter() as writer:
        place(writer)
    assert boto3.resource("dynamodb").Table("kit-orders").scan()["Count"] == 1

def test_the_clock_is_everybodys(
    reliable_write_writer, reliable_write_sandbox, reliable_write_monitor, reliable_write_time
):
    die(reliable_write_writer)
    assert reliable_write_monitor.run_once(one_shot=True).started == 0
    reliable_write_time.move(60)
    assert reliable_write_monitor.run_once(one_shot=True).started == 1
    assert len(reliable_write_sandbox.items("kit-parcels")) == 1
""")
    result.assert_outcomes(passed=3)


def test_a_test_that_leaves_a_write_pending_fails_and_says_which(run: Runner) -> None:
    result = run("""
def test_careless(reliable_write_writer):
    die(reliable_write_writer)

@pytest.mark.reliable_write_leaves_pending
def test_meant(reliable_write_writer):
    die(reliable_write_writer)

def test_finished(reliable_write_writer, reliable_write_sandbox):
    die(reliable_write_writer)
    assert reliable_write_sandbox.recover() == []

def test_failing_for_its_own_reason(reliable_write_writer):
    die(reliable_write_writer)
    assert 1 == 2
""")
    result.assert_outcomes(passed=2, failed=2)
    result.stdout.fnmatch_lines(
        [
            "*test_careless*",
            "this test left 1 unfinished write:",
            "  * (pending) to kit-orders, kit-parcels",
            "    reliable-write writes explain *",
            "*RELIABLE_WRITE_SYSTEM_TABLE=reliable-write-*",
            "*assert 1 == 2*",
        ]
    )
    told, _, _summary = result.stdout.str().partition("short test summary")  # which repeats it under CI=true
    assert told.count("this test left") == 1


def test_crash_points_name_the_place_in_the_report(run: Runner) -> None:
    result = run("""
def plain():
    for table, item in (("kit-orders", {"id": "o"}), ("kit-parcels", {"id": "o", "number": 1})):
        boto3.resource("dynamodb").Table(table).put_item(Item=item)

def test_planted(reliable_write_sandbox, reliable_write_crash_points):
    def check(after):
        assert len(reliable_write_sandbox.items("kit-orders")) == len(reliable_write_sandbox.items("kit-parcels"))

    reliable_write_crash_points(plain, check)

def test_scope(reliable_write_sandbox, reliable_write_crash_points):
    def check(after):
        assert len(reliable_write_sandbox.items("kit-orders")) == len(reliable_write_sandbox.items("kit-parcels"))

    tried = reliable_write_crash_points(lambda: place(ReliableWriter()), check)
    assert tried.crashed == len(tried.points) == 2 * len(tried.calls)
""")
    result.assert_outcomes(passed=1, failed=1)
    result.stdout.fnmatch_lines(
        [
            "E*at crash point 2 of 4: crash after call 1 of 2, after which it died. Its calls:",
            "E*1 PutItem kit-orders   <-- crash after this one",
        ]
    )


def test_strict_markers_know_ours_and_help_knows_the_option(run: Runner) -> None:
    result = run(
        "@pytest.mark.reliable_write_leaves_pending\ndef test_one(): pass", "--strict-markers", head="import pytest\n"
    )
    result.assert_outcomes(passed=1)
    assert "--reliable-write-endpoint=URL" in run("", "--help").stdout.str()


def test_nothing_heavy_is_imported_for_those_who_do_not_use_it() -> None:
    """The plugin is loaded wherever the package is installed."""
    script = "import sys, pytest, reliable_write.testing.plugin; print(*sorted(sys.modules))"
    ran = subprocess.run(
        [sys.executable, "-c", script],
        env={**os.environ, "PYTHONPATH": str(ROOT)},
        capture_output=True,
        text=True,
        check=True,
        timeout=60,
    )
    loaded = set(ran.stdout.split())
    assert {name for name in loaded if name.startswith(("reliable_write", "monitor"))} == {
        "reliable_write",
        "reliable_write.testing",
        "reliable_write.testing.plugin",
    }
    assert not {"boto3", "botocore", "pydantic", "structlog", "zstandard"} & loaded


def test_every_public_name_of_the_kit_is_there() -> None:
    from reliable_write import testing  # noqa: PLC0415

    assert [name for name in testing.__all__ if getattr(testing, name, None) is None] == []
    assert sorted(testing.__all__) == sorted(set(testing.__all__))
    assert set(testing.__all__) <= set(dir(testing))
    with pytest.raises(AttributeError):
        testing.misspelt  # type: ignore[attr-defined]  # noqa: B018
