"""Destinations in threads and forked children, and on the command line."""

from __future__ import annotations

import threading
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import Any

import pytest
from typer.testing import CliRunner

from reliable_write.dynamodb import open_client
from tests.integration.regions import TABLE, Two, at, far, two
from tests.integration.test_fork import in_child

__all__ = ["far", "two"]


# --- processes, threads -----------------------------------------------------------------------------------------------


def test_a_destination_is_opened_once_whatever_number_of_threads_comes_first(
    two: Two, monkeypatch: pytest.MonkeyPatch
) -> None:
    opened: list[str] = []
    opening = open_client

    def counted(settings: Any, session: Any = None) -> Any:
        opened.append(settings.region)
        return opening(settings, session)

    monkeypatch.setattr("reliable_write.dynamodb.destinations.open_client", counted)
    writer = two.writer()
    start = threading.Barrier(8)

    def race(number: int) -> None:
        start.wait(20)
        two.put(writer, f"o-{number}")

    with ThreadPoolExecutor(8) as pool:
        list(pool.map(race, range(8)))
    assert opened.count("eu-west-1") == 1
    assert two.items() == two.far.items()
    assert len(two.items()) == 8


@pytest.mark.filterwarnings("ignore:This process .* is multi-threaded:DeprecationWarning")
def test_a_forked_child_opens_destinations_of_its_own(two: Two) -> None:
    writer = two.writer()
    two.put(writer, "parent")
    ours = id(at(writer))

    def child() -> bool:
        two.put(writer, "child")
        return id(at(writer)) != ours

    assert in_child(child)
    two.put(writer, "parent-again")
    assert set(two.items()) == set(two.far.items()) == {"parent", "child", "parent-again"}


# --- the command line -------------------------------------------------------------------------------------------------


def test_doctor_asks_each_destination_and_tries_permissions_there(two: Two) -> None:
    ran = two.cli("doctor", "--table", f"eu:{TABLE}", "--json")
    checks = {(check["name"], check["action"]): check for check in ran.facts["checks"]}
    assert checks["destination: eu", None]["health"] == "ok"
    assert checks[f"may, on eu:{TABLE}", "DescribeTable"]["health"] == "ok"
    two.far.engine.kill()
    ran = two.cli("doctor", "--json")
    (check,) = [check for check in ran.facts["checks"] if check["name"] == "destination: eu"]
    assert check["health"] == "failed"
    assert two.far.engine.endpoint_url in check["told"]


def test_a_policy_names_the_table_where_it_lies(two: Two) -> None:
    ran = two.cli("iam", "policy", "--role", "app", "--table", f"eu:{TABLE}", "--account", "123456789012")
    resources = [statement["Resource"] for statement in ran.facts["Statement"]]
    assert resources[1] == [f"arn:aws:dynamodb:eu-west-1:123456789012:table/{TABLE}"]
    assert ":us-east-1:" in resources[0][0]


def test_a_foreign_stamp_is_taken_off_in_the_second_region(two: Two) -> None:
    two.far.client.put_item(TableName=TABLE, Item={"id": {"S": "o-1"}, "_rw": {"N": "7"}})
    ran = two.cli("repair-stamp", f"eu:{TABLE}", "--key", '{"id": "o-1"}', "--reason", "test", "--yes")
    assert ran.code == 0, ran.out + ran.err
    assert "_rw" not in two.far.client.get_item(TableName=TABLE, Key={"id": {"S": "o-1"}})["Item"]


def test_config_show_tells_the_destinations_and_where_they_came_from(two: Two, tmp_path: Path) -> None:
    from monitor.cli import app as monitor_app  # noqa: PLC0415 - beside the other command line

    file = tmp_path / "monitor.toml"
    file.write_text('[writer.destinations.eu]\nregion_name = "eu-west-1"\n')
    shown_by_file = CliRunner().invoke(monitor_app, ["config", "show", "--origin", "--config", str(file)])
    (line,) = [line for line in shown_by_file.stdout.splitlines() if line.startswith("writer.destinations")]
    assert '"region_name": "eu-west-1"' in line
    assert line.endswith(f"file {file}")
    by_environment = CliRunner().invoke(monitor_app, ["config", "show", "--origin"], env=two.environment())
    assert two.far.engine.endpoint_url in by_environment.stdout
    assert "environment RELIABLE_WRITE_DESTINATIONS" in by_environment.stdout
