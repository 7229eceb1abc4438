"""`reliable-write doctor`: everything that can be wrong around the writes, tried one by one, without changing anything.

A permission is tried by a real call that cannot do anything: reads of an absent key, and writes under a condition that
is never true. BatchWriteItem knows no conditions: it deletes one record that never existed.
"""

from __future__ import annotations

import email.utils
import enum
from collections.abc import Iterator
from dataclasses import dataclass, replace
from typing import Any, Final

from reliable_write import limits
from reliable_write.cli.connect import Connection
from reliable_write.cli.desk import seated
from reliable_write.cli.exits import ExitCode, ending_of
from reliable_write.cli.installation import Wishes, inspect, matters
from reliable_write.cli.listing import Overview, overview
from reliable_write.cli.options import At
from reliable_write.dynamodb import CallFailed, is_aws
from reliable_write.dynamodb.failures import CONDITION_CODE, translate
from reliable_write.entry import State
from reliable_write.errors import ConfigurationError
from reliable_write.explain import duration
from reliable_write.permissions import DESTINATION_ACTIONS, SYSTEM_TABLE_ACTIONS, Role
from reliable_write.policy import FailureKind

CLOCK_WARNING_SECONDS: Final = 5.0
CLOCK_FAILURE_SECONDS: Final = 300.0
"""AWS refuses signatures this far off."""
_TABLE: Final = "table"
"""The check that there is a system table and that it can be asked; made only where it fails."""
_NO_TABLE: Final = "reliable-write-doctor"
_NEVER: Final = "attribute_exists(#k) AND attribute_not_exists(#k)"
_SAMPLES: Final = {"S": {"S": "reliable-write-doctor"}, "N": {"N": "0"}, "B": {"B": b"reliable-write-doctor"}}


class Health(enum.StrEnum):
    """The answer to one check."""

    OK = "ok"
    ATTENTION = "attention"
    FAILED = "failed"
    SKIPPED = "skipped"


@dataclass(frozen=True, slots=True)
class Check:
    """One thing looked at."""

    name: str
    health: Health
    told: str
    run: str = ""
    """The command that helps, where one does."""
    action: str = ""
    """For a permission: the IAM action."""


@dataclass(frozen=True, slots=True)
class Diagnosis:
    """All checks, in the order in which they were made."""

    place: dict[str, Any]
    role: Role
    checks: tuple[Check, ...]

    def having(self, health: Health) -> list[Check]:
        """Checks with this answer."""
        return [check for check in self.checks if check.health is health]

    @property
    def verdict(self) -> str:
        """The last line."""
        failed, attention = self.having(Health.FAILED), self.having(Health.ATTENTION)
        if failed:
            return f"Not in order: {_names(failed)}."
        if attention:
            return f"Works, but wants attention: {_names(attention)}."
        return "In order."

    @property
    def exit_code(self) -> ExitCode:
        """CONFIGURATION where something failed, PARTLY where somebody should look."""
        if self.having(Health.FAILED):
            return ExitCode.CONFIGURATION
        return ExitCode.PARTLY if self.having(Health.ATTENTION) else ExitCode.DONE

    def facts(self) -> dict[str, Any]:
        """For `--json`."""
        return {
            **self.place,
            "role": self.role,
            "verdict": self.verdict,
            "healthy": self.exit_code is ExitCode.DONE,
            "checks": [
                {
                    "name": check.name,
                    "action": check.action or None,
                    "health": check.health.value,
                    "told": check.told,
                    "run": check.run or None,
                }
                for check in self.checks
            ],
        }


def _names(checks: list[Check]) -> str:
    return ", ".join(check.name for check in checks)


def diagnose(connection: Connection, at: At, role: Role, tables: list[str]) -> Diagnosis:
    """Make all checks for somebody in this role. What makes the later ones pointless is itself a check that failed."""
    checks = [_identity(connection), _clock(connection), *_shape(connection)]
    if all(check.name != _TABLE for check in checks):
        checks.append(judge_collection(connection.client.meta.endpoint_url))
        checks += _permissions(connection, connection.table, SYSTEM_TABLE_ACTIONS[role])
        checks += [_destination(connection, alias) for alias in connection.settings.destinations]
        for table in tables:
            checks += _permissions(connection, table, DESTINATION_ACTIONS[role])
        checks += _journal(connection, at)
    return Diagnosis(connection.place, role, tuple(replace(check, run=at.told(check.run)) for check in checks))


# --- who and when -------------------------------------------------------------------------------------------------


def _identity(connection: Connection) -> Check:
    """Who AWS takes us for. Custom endpoints have no STS of their own."""
    settings = connection.settings
    if settings.endpoint_url is not None:
        return Check("identity", Health.SKIPPED, "not asked: a custom endpoint")
    import boto3
    from botocore.config import Config
    from botocore.exceptions import BotoCoreError, ClientError

    try:
        session = boto3.session.Session(profile_name=settings.profile, region_name=settings.region)
        patience = Config(connect_timeout=2, read_timeout=4, retries={"total_max_attempts": 1})
        arn = session.client("sts", config=patience).get_caller_identity()["Arn"]
    except ClientError as error:
        return Check("identity", Health.ATTENTION, f"not told: {error.response['Error']['Code']}")
    except BotoCoreError as error:
        return Check("identity", Health.SKIPPED, f"STS not reached ({type(error).__name__}); nothing depends on it")
    return Check("identity", Health.OK, arn)


def _clock(connection: Connection) -> Check:
    """This machine's clock against the Date of an answer, which is told to the second.

    A refusal has a Date too, and a clock that is far off is refused.
    """
    try:
        answer = connection.client.describe_table(TableName=connection.table)
    except Exception as error:  # noqa: BLE001 - translated, or raised as it is
        answer = getattr(error, "response", None)
        if answer is None:
            return Check("clock", Health.SKIPPED, f"no answer to compare with: {translate(error, None)}")
    date = answer.get("ResponseMetadata", {}).get("HTTPHeaders", {}).get("date")
    if not date:
        return Check("clock", Health.SKIPPED, "the endpoint sends no Date")
    ahead_seconds = connection.time.wall_seconds() - email.utils.parsedate_to_datetime(date).timestamp()
    return judge_clock(ahead_seconds)


def judge_clock(ahead_seconds: float) -> Check:
    """A second of rounding and a slow answer are not worth a word."""
    if abs(ahead_seconds) < CLOCK_WARNING_SECONDS:
        return Check("clock", Health.OK, f"within {CLOCK_WARNING_SECONDS:.0f} s of the service's")
    side = "ahead of" if ahead_seconds > 0 else "behind"
    told = f"{duration(abs(ahead_seconds))} {side} the service's: check this machine's time synchronisation"
    failed = abs(ahead_seconds) >= CLOCK_FAILURE_SECONDS
    return Check("clock", Health.FAILED if failed else Health.ATTENTION, told)


def judge_collection(endpoint_url: str) -> Check:
    """Whether monitors remove what nobody needs any more; their setting `gc` may say otherwise, unseen from here."""
    if is_aws(endpoint_url):
        return Check("collection", Health.OK, "monitors collect tombstones and chunks here, unless gc is false")
    told = (
        "monitors keep tombstones and chunks here for ever, unless gc is true. It may be true only where the engine "
        "refuses requests signed long ago; emulators do not, nor Alternator without authorization"
    )
    return Check("collection", Health.SKIPPED, told)


def _shape(connection: Connection) -> Iterator[Check]:
    try:
        report = inspect(connection, Wishes())
    except Exception as error:
        if (ending := ending_of(error)) is None:
            raise
        yield Check(_TABLE, Health.FAILED, ending.told)
        return
    for finding in report.findings:
        if finding.name == _TABLE:
            yield Check(_TABLE, Health.FAILED, _no_table(connection), "reliable-write init")
            return
        if finding.ok:
            health = Health.OK
        elif finding.required:
            health = Health.FAILED
        else:  # safer with, safe without: emulators lack these, and nobody is to be woken for it
            health = Health.SKIPPED
        run = "" if finding.ok or health is Health.SKIPPED else "reliable-write init --check"
        told = finding.told if finding.ok else f"{finding.told}. {matters(finding)}"
        yield Check(f"table: {finding.name}", health, told, run)


def _no_table(connection: Connection) -> str:
    return (
        f"there is none of this name in {connection.place['region']}. If it is in another Region or account, give "
        "--region or --profile; only if it is to be made here:"
    )


# --- other places -------------------------------------------------------------------------------------------------


def _destination(connection: Connection, alias: str) -> Check:
    """Asked for a table that is not there: an answer to that, or a denial, shows that the way is open."""
    name = f"destination: {alias}"
    try:
        connection.store.describe(f"{alias}:{_NO_TABLE}", connection.deadline())
    except CallFailed as failure:
        if failure.kind not in (FailureKind.TABLE_MISSING, FailureKind.ACCESS_DENIED):
            return Check(name, Health.FAILED, str(failure.__cause__ or failure))
    client, _ = connection.calls.client_of(f"{alias}:{_NO_TABLE}")
    return Check(name, Health.OK, f"answers, at {client.meta.endpoint_url} ({client.meta.region_name})")


# --- permissions --------------------------------------------------------------------------------------------------


def _permissions(connection: Connection, table: str, actions: tuple[str, ...]) -> Iterator[Check]:
    try:
        key, key_name = _absent_key(connection, table)
    except CallFailed as failure:
        yield Check(f"may, on {table}", Health.FAILED, f"cannot be described: {failure}")
        return
    client, name = connection.calls.client_of(table)
    probes = _probes(name, key, key_name)
    for action in actions:
        yield _tried(client, f"may, on {table}", action, probes[action])


def _absent_key(connection: Connection, table: str) -> tuple[dict[str, Any], str]:
    try:
        client, name = connection.calls.client_of(table)
        described = client.describe_table(TableName=name)["Table"]
    except Exception as error:
        failure = translate(error, table)
        if isinstance(failure, CallFailed):
            raise failure from error
        raise
    types = {row["AttributeName"]: row["AttributeType"] for row in described["AttributeDefinitions"]}
    names = [row["AttributeName"] for row in described["KeySchema"]]
    return {name: _SAMPLES[types[name]] for name in names}, names[0]


def _probes(table: str, key: dict[str, Any], key_name: str) -> dict[str, tuple[str, dict[str, Any]]]:
    never = {"ConditionExpression": _NEVER, "ExpressionAttributeNames": {"#k": key_name}}
    equals = {
        "KeyConditionExpression": "#k = :k",
        "ExpressionAttributeNames": {"#k": key_name},
        "ExpressionAttributeValues": {":k": key[key_name]},
        "Limit": 1,
    }
    return {
        "DescribeTable": ("describe_table", {"TableName": table}),
        "DescribeContinuousBackups": ("describe_continuous_backups", {"TableName": table}),
        "DescribeTimeToLive": ("describe_time_to_live", {"TableName": table}),
        "GetItem": ("get_item", {"TableName": table, "Key": key}),
        "BatchGetItem": ("batch_get_item", {"RequestItems": {table: {"Keys": [key]}}}),
        "Query": ("query", {"TableName": table, **equals}),
        "Scan": ("scan", {"TableName": table, "Limit": 1}),
        "PutItem": ("put_item", {"TableName": table, "Item": key, **never}),
        "DeleteItem": ("delete_item", {"TableName": table, "Key": key, **never}),
        "UpdateItem": ("update_item", {"TableName": table, "Key": key, **never}),
        "ConditionCheckItem": (
            "transact_write_items",
            {"TransactItems": [{"ConditionCheck": {"TableName": table, "Key": key, **never}}]},
        ),
        "BatchWriteItem": ("batch_write_item", {"RequestItems": {table: [{"DeleteRequest": {"Key": key}}]}}),
    }


def _tried(client: Any, name: str, action: str, probe: tuple[str, dict[str, Any]]) -> Check:
    call, request = probe
    try:
        getattr(client, call)(**request)
    except Exception as error:  # noqa: BLE001 - every error of the call is this check's answer
        health, told, run = judge_refusal(error)
        return Check(name, health, told, run, action)
    return Check(name, Health.OK, "allowed", action=action)


def judge_refusal(error: Exception) -> tuple[Health, str, str]:
    """What a refused probe says about the permission, and the command that helps."""
    code = getattr(error, "response", {}).get("Error", {}).get("Code", "")
    if code in (
        CONDITION_CODE,
        "TransactionCanceledException",
    ):  # it was allowed, and found its condition false, as meant
        return Health.OK, "allowed", ""
    failure = translate(error, None)
    if isinstance(failure, CallFailed) and failure.kind is FailureKind.ACCESS_DENIED:
        return Health.FAILED, "is denied", "reliable-write iam policy --help"
    if code in ("UnknownOperationException", "InvalidAction"):
        return Health.SKIPPED, "is not known to this engine", ""
    return Health.ATTENTION, f"gave no answer: {failure}", ""


# --- what lies in the journal -------------------------------------------------------------------------------------


def _journal(connection: Connection, at: At) -> list[Check]:
    try:
        with seated(connection, at) as desk:
            seen = overview(desk)
    except (CallFailed, ConfigurationError) as failure:
        return [Check("journal", Health.FAILED, f"cannot be read: {str(failure).rstrip('.')}")]
    return [_monitors(seen), _stragglers(seen), _quarantined(seen), _unreadable(seen)]


def _monitors(seen: Overview) -> Check:
    if seen.monitors_alive:
        names = ", ".join(heartbeat.monitor for heartbeat in seen.heartbeats if heartbeat.alive)
        return Check("monitor", Health.OK, f"{seen.monitors_alive} alive: {names}")
    last = min((heartbeat.age_seconds for heartbeat in seen.heartbeats), default=None)
    heard = "never heard of" if last is None else f"last heard of {duration(last)} ago"
    return Check("monitor", Health.ATTENTION, f"none alive ({heard}): what a crash leaves behind stays. Start one.")


def _stragglers(seen: Overview) -> Check:
    oldest = seen.listing.oldest(State.PENDING)
    if not seen.overdue or oldest is None:
        pending = seen.listing.counts[State.PENDING]
        return Check("stragglers", Health.OK, f"none ({pending} pending, none older than {seen.overdue_seconds:.0f} s)")
    told = f"{seen.overdue} overdue, the oldest since {duration(oldest.age_seconds or 0)}"
    if oldest.reason:
        told += f": {oldest.reason}"
    return Check("stragglers", Health.ATTENTION, told, f"reliable-write writes explain {oldest.write_id}")


def _quarantined(seen: Overview) -> Check:
    count = seen.listing.counts[State.QUARANTINED]
    if not count:
        return Check("quarantine", Health.OK, "empty")
    told = f"{count} wait for a person"
    return Check("quarantine", Health.ATTENTION, told, "reliable-write writes list --state quarantined")


def _unreadable(seen: Overview) -> Check:
    count = seen.listing.counts["unreadable"]
    if seen.listing.unread_shards:
        return Check("unreadable", Health.ATTENTION, f"{len(seen.listing.unread_shards)} shards could not be read")
    if not count:
        return Check("unreadable", Health.OK, "none")
    told = f"{count} damaged, or of a newer version"
    return Check("unreadable", Health.ATTENTION, told, "reliable-write writes list --state unreadable")


assert limits.HEARTBEAT_ALIVE_SECONDS < CLOCK_FAILURE_SECONDS
