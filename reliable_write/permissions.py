"""Who may do what: the IAM actions of each role, on the system table and on the tables writes go to.

The one source for the policies: `reliable-write iam policy` prints them, the template in `deploy/` is tested against
them, and a test compares them with the calls each role really makes. There is no action for TransactWriteItems: AWS
checks each part of a transaction as the item action it is, and a condition check as `dynamodb:ConditionCheckItem`
(https://docs.aws.amazon.com/amazondynamodb/latest/developerguide/transaction-apis-iam.html).

Making the system table belongs to none of the roles: it is done once, by the template or by an administrator.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any, Final, Literal, get_args

Role = Literal["app", "monitor", "admin-read", "admin-act"]
ROLES: Final[tuple[Role, ...]] = get_args(Role)

PURPOSES: Final[dict[Role, str]] = {
    "app": "Services that write through the library.",
    "monitor": "The daemon: finishes what services left behind.",
    "admin-read": "People who look: status, list, show, explain, doctor.",
    "admin-act": "People who decide: the same, and retry, skip, quarantine, discard, repair-stamp.",
}

_READ_SYSTEM: Final = ("BatchGetItem", "DescribeTable", "GetItem", "Query", "Scan")
_READ_SETTINGS: Final = ("DescribeContinuousBackups", "DescribeTimeToLive")
_LOOK_AT_ITEMS: Final = ("BatchGetItem", "DescribeTable", "GetItem")

SYSTEM_TABLE_ACTIONS: Final[dict[Role, tuple[str, ...]]] = {
    # UpdateItem: a service may finish its own writes after a restart (`writer.recovery`); Query: the same, and to see
    # whether a monitor lives. Never Scan: nothing a service does reads the whole table.
    "app": (
        *("BatchGetItem", "BatchWriteItem", "ConditionCheckItem", "DeleteItem", "GetItem", "PutItem", "Query"),
        "UpdateItem",
    ),
    # Scan: the audit looks for all tombstones, which lie in partitions of their own.
    "monitor": (*_READ_SYSTEM, "BatchWriteItem", "DeleteItem", "PutItem", "UpdateItem"),
    "admin-read": (*_READ_SYSTEM, *_READ_SETTINGS),
    "admin-act": (*_READ_SYSTEM, *_READ_SETTINGS, "BatchWriteItem", "DeleteItem", "PutItem", "UpdateItem"),
}

DESTINATION_ACTIONS: Final[dict[Role, tuple[str, ...]]] = {
    "app": (*_LOOK_AT_ITEMS, "ConditionCheckItem", "DeleteItem", "PutItem", "UpdateItem"),
    # No UpdateItem: updates take effect in the commit itself, and nobody ever replays them.
    "monitor": (*_LOOK_AT_ITEMS, "DeleteItem", "PutItem"),
    "admin-read": _LOOK_AT_ITEMS,
    # UpdateItem takes a foreign stamp off an item. Retried writes are carried out by a monitor, with its own role.
    "admin-act": (*_LOOK_AT_ITEMS, "UpdateItem"),
}


def policy_document(role: Role, system_table_arn: str, destination_arns: Sequence[str]) -> dict[str, Any]:
    """The role's IAM policy as a document, ready for `json.dumps`.

    `destination_arns` are the tables that scopes write to; a policy without one could not apply a single write and is
    refused with `ValueError`, as is an unknown role.
    """
    if role not in ROLES:
        raise ValueError(f"There is no role {role!r}; there are {', '.join(ROLES)}.")
    if isinstance(destination_arns, str) or not destination_arns:
        raise ValueError("destination_arns is a list of at least one table's ARN.")
    return {
        "Version": "2012-10-17",
        "Statement": [
            _statement("SystemTable", SYSTEM_TABLE_ACTIONS[role], [system_table_arn]),
            _statement("Destinations", DESTINATION_ACTIONS[role], list(destination_arns)),
        ],
    }


def _statement(name: str, actions: Sequence[str], resources: list[str]) -> dict[str, Any]:
    return {
        "Sid": name,
        "Effect": "Allow",
        "Action": [f"dynamodb:{action}" for action in sorted(actions)],
        "Resource": resources,
    }
