"""`reliable-write iam policy`: a role's policy with the ARNs of this installation."""

from __future__ import annotations

import re
import sys
from collections.abc import Sequence
from json import dumps
from typing import Any

from reliable_write.cli.connect import Connection, connect
from reliable_write.cli.exits import CommandError, ExitCode
from reliable_write.cli.options import At
from reliable_write.permissions import ROLES, policy_document
from reliable_write.settings import account_of, split_alias


def show(at: At, role: str, tables: Sequence[str], account: str | None) -> ExitCode:
    """Print it."""
    if account is not None and re.fullmatch(r"\d{12}", account) is None:
        raise CommandError(ExitCode.USAGE, "An account id has 12 digits.")
    connection = connect(**at._asdict())

    def arn(table: str) -> str:
        if table.startswith("arn:"):
            return table
        client, name = connection.calls.client_of(table)
        owner = _account_of(connection, table) or account
        if owner is not None:
            return f"arn:{client.meta.partition}:dynamodb:{client.meta.region_name}:{owner}:table/{name}"
        return str(client.describe_table(TableName=name)["Table"]["TableArn"])

    system = arn(connection.table)
    destinations = [arn(table) for table in tables] or [_all_tables(system)]
    document: dict[str, Any] = policy_document(next(known for known in ROLES if known == role), system, destinations)
    sys.stdout.write(dumps(document, indent=2) + "\n")
    if not tables:
        sys.stderr.write(
            "Without --table it is about all tables; name those that writes go to, and it is about them.\n"
        )
    return ExitCode.DONE


def _account_of(connection: Connection, table: str) -> str | None:
    """Of a table at a destination that is reached through a role: the role's."""
    place = connection.settings.destinations.get(split_alias(table)[0] or "")
    return None if place is None or place.role_arn is None else account_of(place.role_arn)


def _all_tables(system_table_arn: str) -> str:
    return f"{system_table_arn.rpartition('/')[0]}/*"
