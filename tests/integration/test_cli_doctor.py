"""`doctor` finds what is wrong, one by one, and changes nothing while it looks."""

from __future__ import annotations

import email.utils
import json
from typing import Any

import pytest
from botocore.exceptions import ClientError

from reliable_write import Settings
from reliable_write.cli.doctor import Health, judge_clock
from reliable_write.cli.exits import ExitCode
from reliable_write.cli.options import RoleChoice
from reliable_write.clock import SystemTime
from reliable_write.dynamodb import open_client
from reliable_write.permissions import DESTINATION_ACTIONS, ROLES, SYSTEM_TABLE_ACTIONS
from reliable_write.testing.faults import Fault, FaultPlan, answer, deny, refuse_connection
from tests.integration.stuck_writes import Stuck, cli, one, put, valid
from tests.world import World, every_world, world

__all__ = ["every_world", "world"]
CALLS = {"ConditionCheckItem": "TransactWriteItems"}
"""Actions whose call has another name."""


def watch(monkeypatch: pytest.MonkeyPatch, *denied: str, having: bytes = b"", fault: Fault = deny) -> list[FaultPlan]:
    """Deny these calls to the command line's own client, and keep what it sent."""
    plans: list[FaultPlan] = []

    def opened(settings: Settings) -> Any:
        client = open_client(settings)
        plans.append(FaultPlan(client))
        for call in denied:
            plans[0].on(call, fault, having=having)
        return client

    monkeypatch.setattr("reliable_write.cli.connect.open_client", opened)
    return plans


def test_everything_in_order_is_exit_code_0_and_the_verdict_is_the_last_line(world: World) -> None:
    Stuck(world.writer()).beat()
    ran = cli(world, "doctor", "--table", world.table("t"))
    assert ran.code == ExitCode.DONE, ran.out
    assert ran.out.splitlines()[-1] == "In order."


@pytest.mark.parametrize("role", ROLES)
def test_each_permission_of_a_role_is_tried_and_nothing_is_changed(every_world: World, role: str) -> None:
    """On every engine: what one does not know is skipped by name."""
    world, table = every_world, every_world.table("t", "id:B", "n:N")
    stuck = Stuck(world.writer())
    stuck.beat()
    before = (world.items(world.system_table), world.items(table))
    facts = valid(cli(world, "doctor", "--role", role, "--table", table, "--json").facts, "doctor")
    tried = [check for check in facts["checks"] if check["action"]]
    wanted = [*SYSTEM_TABLE_ACTIONS[role], *DESTINATION_ACTIONS[role]]  # type: ignore[index]  # a role by its name
    assert [check["action"] for check in tried] == wanted
    unknown = {check["action"] for check in tried if check["health"] != "ok"}
    assert unknown <= {"ConditionCheckItem", "DescribeContinuousBackups", "DescribeTimeToLive"}
    assert {check["health"] for check in tried} <= {"ok", "skipped"}
    assert (world.items(world.system_table), world.items(table)) == before


@pytest.mark.parametrize(
    ("role", "action", "having"),
    [
        ("admin-act", "BatchWriteItem", b""),
        ("admin-act", "DeleteItem", b""),
        ("admin-act", "PutItem", b""),
        ("admin-act", "UpdateItem", b""),
        ("admin-read", "Scan", b""),
        ("admin-read", "BatchGetItem", b""),
        ("admin-read", "DescribeTimeToLive", b""),
        # These are needed to get as far as the checks, so only the tries themselves are denied.
        ("admin-read", "GetItem", b"reliable-write-doctor"),
        ("admin-read", "Query", b"reliable-write-doctor"),
        ("app", "ConditionCheckItem", b""),
    ],
)
def test_a_permission_that_is_missing_is_named(
    world: World, role: str, action: str, having: bytes, monkeypatch: pytest.MonkeyPatch
) -> None:
    Stuck(world.writer()).beat()
    plans = watch(monkeypatch, CALLS.get(action, action), having=having)
    ran = cli(world, "doctor", "--role", role, "--json")
    assert plans[0].injected
    failed = [check for check in valid(ran.facts, "doctor")["checks"] if check["health"] == "failed"]
    assert ran.code == ExitCode.CONFIGURATION
    assert [(check["name"], check["action"]) for check in failed] == [(f"may, on {world.system_table}", action)]
    assert f"Not in order: may, on {world.system_table}." in ran.facts["verdict"]


def test_a_look_that_may_not_act_is_told_so(world: World, monkeypatch: pytest.MonkeyPatch) -> None:
    """The role that only looks is in order although every write is denied it; the one that acts is not."""
    Stuck(world.writer()).beat()
    watch(monkeypatch, "PutItem", "UpdateItem", "DeleteItem", "BatchWriteItem")
    assert cli(world, "doctor", "--role", "admin-read").code == ExitCode.DONE


@pytest.mark.parametrize("kind", ["monitor", "stragglers", "quarantine", "unreadable"])
def test_what_wants_attention_is_named_with_the_command_to_run(world: World, kind: str) -> None:
    stuck, table = Stuck(world.writer()), world.table("t")
    if kind != "monitor":
        stuck.beat()
    if kind == "stragglers":
        stuck.commit(one(put(table, "x")), age_seconds=3600)
    if kind == "quarantine":
        stuck.quarantined(one(put(table, "x")))
    if kind == "unreadable":
        stuck.commit(one(put(table, "x")), format=9)
    ran = cli(world, "doctor", "--json")
    facts = valid(ran.facts, "doctor")
    assert ran.code == ExitCode.PARTLY
    assert facts["verdict"] == f"Works, but wants attention: {kind}."
    (check,) = [check for check in facts["checks"] if check["health"] == "attention"]
    assert (check["run"] is None) == (kind == "monitor")


def test_a_table_that_is_not_there_and_a_missing_system_table_are_told(world: World) -> None:
    Stuck(world.writer()).beat()
    ran = cli(world, "doctor", "--table", "no-such-table", "--json")
    assert ran.code == ExitCode.CONFIGURATION
    assert "cannot be described" in json.dumps(ran.facts)
    ran = cli(world, "doctor", "--system-table", "no-such-table")
    assert ran.code == ExitCode.CONFIGURATION
    assert "reliable-write init --system-table no-such-table" in ran.out
    assert "in another Region" in " ".join(ran.out.split()), "before it is made anew"
    assert ran.out.splitlines()[-1] == "Not in order: table."


@pytest.mark.parametrize(
    ("fault", "told"),
    [
        (refuse_connection, "Check --endpoint-url"),
        (deny, "Let an administrator allow this call"),
        (answer("UnrecognizedClientException"), "aws sts get-caller-identity"),
    ],
    ids=["unreachable", "denied", "credentials"],
)
def test_where_nothing_can_be_asked_there_is_a_verdict_too(
    world: World, monkeypatch: pytest.MonkeyPatch, fault: Fault, told: str
) -> None:
    """It is the command to run when the others fail, so it does not fail with them."""
    plans = watch(monkeypatch, "DescribeTable", "GetItem", "Query", fault=fault)
    ran = cli(world, "doctor", "--json")
    assert plans[0].injected
    assert ran.code == ExitCode.CONFIGURATION
    facts = valid(ran.facts, "doctor")
    assert facts["verdict"] == "Not in order: table."
    assert told in facts["checks"][-1]["told"]


def test_a_clock_so_far_off_that_aws_refuses_is_found_by_the_date_of_the_refusal(
    world: World, monkeypatch: pytest.MonkeyPatch
) -> None:
    """It is what a machine with a stopped clock meets: its signatures are refused, and nothing says why."""

    class AheadTime(SystemTime):
        def wall_seconds(self) -> float:
            return super().wall_seconds() + 3600

    def refused(**_request: object) -> None:
        date = email.utils.formatdate(SystemTime().wall_seconds(), usegmt=True)
        answered: Any = {
            "Error": {"Code": "InvalidSignatureException"},
            "ResponseMetadata": {"HTTPHeaders": {"date": date}},
        }
        raise ClientError(answered, "DescribeTable")

    def opened(settings: Settings) -> Any:
        client = open_client(settings)
        client.describe_table = refused
        return client

    monkeypatch.setattr("reliable_write.cli.connect.SystemTime", AheadTime)
    monkeypatch.setattr("reliable_write.cli.connect.open_client", opened)
    ran = cli(world, "doctor", "--json")
    (clock,) = [check for check in valid(ran.facts, "doctor")["checks"] if check["name"] == "clock"]
    assert (clock["health"], "ahead of the service's" in clock["told"]) == ("failed", True)
    assert ran.facts["verdict"] == "Not in order: clock, table."


@pytest.mark.parametrize(
    ("ahead_seconds", "health"),
    [
        (0.0, Health.OK),
        (4.9, Health.OK),
        (-4.9, Health.OK),
        (5.1, Health.ATTENTION),
        (-299.0, Health.ATTENTION),
        (301.0, Health.FAILED),
        (-301.0, Health.FAILED),
    ],
)
def test_a_clock_that_is_off_is_judged_by_how_much(ahead_seconds: float, health: Health) -> None:
    assert judge_clock(ahead_seconds).health is health


def test_the_clock_is_held_against_the_services_date(world: World, monkeypatch: pytest.MonkeyPatch) -> None:
    Stuck(world.writer()).beat()

    class BehindTime(SystemTime):
        def wall_seconds(self) -> float:
            return super().wall_seconds() - 3600

    monkeypatch.setattr("reliable_write.cli.connect.SystemTime", BehindTime)
    ran = cli(world, "doctor", "--json")
    (clock,) = [check for check in ran.facts["checks"] if check["name"] == "clock"]
    assert clock["health"] == "failed"
    assert "behind the service's" in clock["told"]
    assert ran.code == ExitCode.CONFIGURATION


# --- iam ----------------------------------------------------------------------------------------------------------


def test_the_roles_of_the_command_line_are_those_of_the_policies() -> None:
    assert [choice.value for choice in RoleChoice] == list(ROLES)


@pytest.mark.parametrize("role", ROLES)
def test_a_policy_names_the_tables_it_is_about(world: World, role: str) -> None:
    arguments = ["--account", "123456789012", "--table", "orders", "--table", "arn:aws:dynamodb:eu-west-1:1:table/x"]
    policy = valid(cli(world, "iam", "policy", "--role", role, *arguments).facts, "iam-policy")
    here = "arn:aws:dynamodb:us-east-1:123456789012:table/"
    assert [statement["Resource"] for statement in policy["Statement"]] == [
        [f"{here}{world.system_table}"],
        [f"{here}orders", "arn:aws:dynamodb:eu-west-1:1:table/x"],
    ]


def test_a_policy_takes_arns_from_the_tables_themselves_and_says_when_it_is_about_all(world: World) -> None:
    ran = cli(world, "iam", "policy", "--role", "app")
    system, destinations = (statement["Resource"] for statement in ran.facts["Statement"])
    assert system == [world.client.describe_table(TableName=world.system_table)["Table"]["TableArn"]]
    assert destinations == [f"{system[0].rpartition('/')[0]}/*"]
    assert "about all tables" in ran.err
    assert cli(world, "iam", "policy", "--role", "app", "--table", "no-such-table").code == ExitCode.NOT_FOUND
    assert cli(world, "iam", "policy", "--role", "app", "--account", "12").code == ExitCode.USAGE
    assert cli(world, "iam", "policy", "--role", "king").code == ExitCode.USAGE
