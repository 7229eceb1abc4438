"""The policies are made of actions that exist, and hold no more than their role needs."""

import json

import boto3
import pytest

from reliable_write.permissions import (
    DESTINATION_ACTIONS,
    PURPOSES,
    ROLES,
    SYSTEM_TABLE_ACTIONS,
    Role,
    policy_document,
)

TABLE = "arn:aws:dynamodb:eu-central-1:123456789012:table/reliable_write"
DESTINATIONS = [TABLE.replace("reliable_write", name) for name in ("orders", "lines")]
WRITES = {"BatchWriteItem", "DeleteItem", "PutItem", "UpdateItem", "ConditionCheckItem"}


def actions(role: Role, sid: str) -> set[str]:
    (statement,) = [one for one in policy_document(role, TABLE, DESTINATIONS)["Statement"] if one["Sid"] == sid]
    return {action.removeprefix("dynamodb:") for action in statement["Action"]}


@pytest.mark.parametrize("role", ROLES)
def test_every_action_is_a_call_of_dynamodb_or_the_condition_check(role: Role) -> None:
    """IAM knows no TransactWriteItems; a policy that names it grants nothing."""
    known = {
        *boto3.client("dynamodb", region_name="us-east-1").meta.service_model.operation_names,
        "ConditionCheckItem",
    }
    granted = actions(role, "SystemTable") | actions(role, "Destinations")
    assert granted <= known
    assert not {action for action in granted if "Transact" in action or "*" in action}


@pytest.mark.parametrize("role", ROLES)
def test_each_statement_names_its_tables_and_no_others(role: Role) -> None:
    document = policy_document(role, TABLE, DESTINATIONS)
    assert {one["Sid"]: one["Resource"] for one in document["Statement"]} == {
        "SystemTable": [TABLE],
        "Destinations": DESTINATIONS,
    }
    assert {one["Effect"] for one in document["Statement"]} == {"Allow"}


@pytest.mark.parametrize("role", ROLES)
def test_a_policy_fits_into_iams_6144_characters_with_fifty_tables(role: Role) -> None:
    tables = [TABLE.replace("reliable_write", f"table-{number:02}") for number in range(50)]
    assert len(json.dumps(policy_document(role, TABLE, tables), separators=(",", ":"))) < 6144


def test_who_only_looks_cannot_write() -> None:
    assert not (actions("admin-read", "SystemTable") | actions("admin-read", "Destinations")) & WRITES


def test_the_roles_differ_where_their_work_does() -> None:
    assert "Scan" not in actions("app", "SystemTable")
    assert "UpdateItem" not in actions("monitor", "Destinations")
    assert actions("admin-act", "Destinations") & WRITES == {"UpdateItem"}
    assert actions("admin-read", "SystemTable") < actions("admin-act", "SystemTable")


def test_every_role_has_both_statements_and_a_purpose() -> None:
    assert set(SYSTEM_TABLE_ACTIONS) == set(DESTINATION_ACTIONS) == set(PURPOSES) == set(ROLES)


def test_a_policy_without_tables_or_for_nobody_is_refused() -> None:
    with pytest.raises(ValueError, match="at least one"):
        policy_document("app", TABLE, [])
    with pytest.raises(ValueError, match="at least one"):
        policy_document("app", TABLE, TABLE)
    with pytest.raises(ValueError, match="no role 'root'"):
        policy_document("root", TABLE, DESTINATIONS)  # type: ignore[arg-type]
