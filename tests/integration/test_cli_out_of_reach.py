"""What commands say where they cannot get at the writes: no table, no service, no permission, an outage on the way."""

from __future__ import annotations

import re
from collections.abc import Callable
from typing import Any

import pytest

from reliable_write import Settings
from reliable_write.cli.desk import OUTER_THREADS
from reliable_write.cli.exits import ExitCode
from reliable_write.dynamodb import open_client
from reliable_write.testing.faults import Call, Fault, FaultPlan, answer, deny, refuse_connection
from tests.integration.stuck_writes import Stuck, cli, one, put, valid
from tests.world import World, wide_world, world

__all__ = ["wide_world", "world"]
NO_WRITE = "0" * 36
COMMANDS = [
    ["status"],
    ["audit", "list"],
    ["writes", "list"],
    ["writes", "explain", NO_WRITE],
    ["writes", "retry", "--state", "pending", "--reason", "why", "--yes"],
]
Break = Callable[..., list[FaultPlan]]


@pytest.fixture
def broken(monkeypatch: pytest.MonkeyPatch) -> Break:
    """Makes calls of the command line's own client fail; nobody waits for long."""
    monkeypatch.setenv("RELIABLE_WRITE_ATTEMPT_DEADLINE_SECONDS", "1.5")
    monkeypatch.setenv("RELIABLE_WRITE_READ_TIMEOUT_SECONDS", "1.0")

    def breaks(fault: Fault, *operations: str) -> list[FaultPlan]:
        plans: list[FaultPlan] = []

        def opened(settings: Settings) -> Any:
            client = open_client(settings)
            plans.append(FaultPlan(client))
            for operation in operations:
                plans[-1].on(operation, fault)
            return client

        monkeypatch.setattr("reliable_write.cli.connect.open_client", opened)
        return plans

    return breaks


@pytest.mark.parametrize("command", COMMANDS, ids=" ".join)
def test_a_service_out_of_reach_is_a_matter_of_the_service_and_says_what_to_look_at(
    world: World, broken: Break, command: list[str]
) -> None:
    """Not of the settings, although it is the settings' table that cannot be read first."""
    broken(refuse_connection, "GetItem")
    ran = cli(world, *command)
    assert ran.code == ExitCode.SERVICE
    assert "Check --endpoint-url, --region and the network" in ran.err


@pytest.mark.parametrize("command", COMMANDS, ids=" ".join)
def test_a_role_that_may_not_read_the_table_is_told_who_can_help(
    world: World, broken: Break, command: list[str]
) -> None:
    broken(deny, "GetItem")
    ran = cli(world, *command)
    assert ran.code == ExitCode.SERVICE
    assert "Let an administrator allow this call" in ran.err


def test_credentials_that_are_refused_are_a_matter_of_configuration(world: World, broken: Break) -> None:
    broken(answer("UnrecognizedClientException"), "GetItem")
    ran = cli(world, "status")
    assert ran.code == ExitCode.CONFIGURATION
    assert "aws sts get-caller-identity" in ran.err


@pytest.mark.parametrize("command", COMMANDS, ids=" ".join)
def test_a_table_that_is_not_here_may_be_elsewhere_and_is_not_made_on_the_word_of_an_error(
    world: World, command: list[str]
) -> None:
    """Who sits in the wrong Region and is told to run `init` has a second journal."""
    ran = cli(world, *command, "--system-table", "absent", "--region", "eu-west-1")
    assert ran.code == ExitCode.CONFIGURATION
    told = " ".join(ran.err.split())
    assert f"There is no system table 'absent' in eu-west-1 at {world.engine.endpoint_url}. If it is elsewhere" in told
    assert told.endswith("run: reliable-write init --region eu-west-1 --system-table absent")


@pytest.mark.parametrize("option", ["--region", "--profile", "--endpoint-url", "--system-table"])
def test_an_option_that_a_script_left_empty_is_refused(world: World, option: str) -> None:
    """`--region "$REGION"` with nothing in it must not fall back on another installation."""
    ran = cli(world, "status", option, "")
    assert ran.code == ExitCode.CONFIGURATION
    assert option.strip("-").replace("-", "_") in ran.err


def test_the_words_of_botocore_end_before_ours_begin(world: World) -> None:
    assert "could not be found. Set, as they apply" in cli(world, "status", "--profile", "no-such").err


# --- an outage on the way -----------------------------------------------------------------------------------------


def shards_asked(plan: FaultPlan) -> set[bytes]:
    found = [re.search(rb"J#\d+", call.body) for call in plan.calls if call.operation == "Query"]
    return {match[0] for match in found if match is not None}


@pytest.mark.parametrize("fault", [refuse_connection, deny], ids=["outage", "denied"])
def test_a_list_gives_up_once_a_shard_failed_as_all_will(wide_world: World, broken: Break, fault: Fault) -> None:
    """Sixty-four shards, one after another as long as the patience for one: a person would wait for minutes."""
    plans = broken(fault, "Query")
    ran = cli(wide_world, "writes", "list", "--json")
    facts = valid(ran.facts, "writes-list")
    assert ran.code == ExitCode.PARTLY
    assert len(facts["unread_shards"]) == 64, "each is told all the same"
    assert 0 < len(shards_asked(plans[0])) <= OUTER_THREADS + 1, "the threads, and who waits for them"


def test_shards_that_are_throttled_do_not_hide_the_others(wide_world: World, broken: Break) -> None:
    """Throttling is of one partition: the others are asked, although all that were asked first failed."""
    stuck, table = Stuck(wide_world.writer()), wide_world.table("t")
    entries = [stuck.commit(one(put(table, f"k{n}"))) for n in range(30)]
    hot = [f"J#{shard:03d}".encode() for shard in range(OUTER_THREADS)]

    def throttle_some(call: Call) -> object:
        return answer("ThrottlingException")(call) if any(name in call.body for name in hot) else None

    broken(throttle_some, "Query")
    ran = cli(wide_world, "writes", "list", "--json")
    expected = {entry.write_id for entry in entries if entry.shard >= OUTER_THREADS}
    assert len(expected) > 5
    assert {row["write_id"] for row in ran.facts["writes"]} == expected
    assert len(ran.facts["unread_shards"]) == OUTER_THREADS
    assert all("throttled" in told for told in ran.facts["unread_shards"])


def test_a_list_that_is_not_complete_never_reads_as_an_empty_one(wide_world: World, broken: Break) -> None:
    broken(refuse_connection, "Query")
    ran = cli(wide_world, "writes", "list")
    assert ran.code == ExitCode.PARTLY
    assert ran.out.strip() == "No entries were read."
    assert "NOT COMPLETE: 64 shards could not be read" in ran.err
    assert ran.err.strip().endswith("reliable-write doctor")
    ran = cli(wide_world, "status")
    assert "Nothing is stuck" not in ran.out
