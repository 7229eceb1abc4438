"""`reliable-write iam policy`: a role's policy with the ARNs of this installation."""

from __future__ import annotations

import re
import sys
from collections.abc import Sequence
from json import dumps
from typing import Any

from reliable_write.cli.connect import connect
from reliable_write.cli.exits import CommandError, ExitCode
from reliable_write.cli.options import At
from reliable_write.permissions import ROLES, policy_document


def show(at: At, role: str, tables: Sequence[str], account: str | None) -> ExitCode:
    """Print it."""
    if account is not None and re.fullmatch(r"\d{12}", account) is None:
        raise CommandError(ExitCode.USAGE, "An account id has 12 digits.")
    connection = connect(**at._asdict())
    region = connection.client.meta.region_name
    partition = connection.client.meta.partition

    def arn(table: str) -> str:
        if table.startswith("arn:"):
            return table
        if account is not None:
            return f"arn:{partition}:dynamodb:{region}:{account}:table/{table}"
        return str(connection.client.describe_table(TableName=table)["Table"]["TableArn"])

    system = arn(connection.table)
    destinations = [arn(table) for table in tables] or [_all_tables(system)]
    document: dict[str, Any] = policy_document(next(known for known in ROLES if known == role), system, destinations)
    sys.stdout.write(dumps(document, indent=2) + "\n")
    if not tables:
        sys.stderr.write(
            "Without --table it is about all tables; name those that writes go to, and it is about them.\n"
        )
    return ExitCode.DONE


def _all_tables(system_table_arn: str) -> str:
    return f"{system_table_arn.rpartition('/')[0]}/*"
