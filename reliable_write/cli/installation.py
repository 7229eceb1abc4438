"""`reliable-write init`: make or check the system table, and say of each thing that is missing whether it matters."""

from __future__ import annotations

from dataclasses import dataclass, replace
from typing import Any, Final, get_args

from reliable_write import limits
from reliable_write.cli.connect import Connection
from reliable_write.cli.exits import CommandError, ExitCode
from reliable_write.dynamodb import CallFailed
from reliable_write.errors import ConfigurationError
from reliable_write.operations import StampNames
from reliable_write.policy import FailureKind
from reliable_write.system_table import (
    CONFIG_KEY,
    TTL_ATTRIBUTE,
    Finding,
    Installation,
    Order,
    check_system_table,
    compare_installations,
    create_system_table,
    read_installation,
)

_WHY_IT_MATTERS: Final = {
    "on-demand": "Works, but commits fail while they are throttled: give it capacity for every write.",
    "point-in-time recovery": "Safe without in tests. In production switch it on, or a journal deleted by mistake is "
    "gone; on a new table try init again in a minute.",
    "deletion protection": "Safe without in tests. In production switch it on: who deletes this table loses the writes "
    "in it.",
    f"TTL on {TTL_ATTRIBUTE}": "Safe without: old heartbeats and audit records stay. No write depends on it.",
}


@dataclass(frozen=True, slots=True)
class Wishes:
    """What the command line asked for; None where it said nothing."""

    order: str | None = None
    shards: int | None = None
    stamp_attribute: str | None = None
    update_stamp_attribute: str | None = None

    def over(self, base: Installation) -> Installation:
        """The installation asked for: what was said, and for the rest what holds."""
        names = StampNames(
            self.stamp_attribute if self.stamp_attribute is not None else base.names.full,
            self.update_stamp_attribute if self.update_stamp_attribute is not None else base.names.update,
        )
        _check_names(names)
        shards = self.shards if self.shards is not None else base.shards
        order: Order = base.order if self.order is None else "clock" if self.order == "clock" else "strict"
        return replace(base, shards=shards, order=order, names=names)


@dataclass(frozen=True, slots=True)
class Report:
    """What holds after `init`."""

    system_table: str
    region: str | None
    endpoint_url: str
    checked_only: bool
    findings: tuple[Finding, ...]

    @property
    def ready(self) -> bool:
        """Whether writers may use the table."""
        return all(finding.ok for finding in self.findings if finding.required)

    @property
    def as_asked(self) -> bool:
        """Whether the installation is the one that was asked for."""
        return all(finding.ok for finding in self.findings if finding.name == _CONFIG)

    @property
    def missing(self) -> tuple[Finding, ...]:
        """What does not hold."""
        return tuple(finding for finding in self.findings if not finding.ok)

    @property
    def exit_code(self) -> ExitCode:
        """PARTLY where the table can be used but is not the one asked for: scripts must notice."""
        if not self.ready:
            return ExitCode.CONFIGURATION
        return ExitCode.DONE if self.as_asked else ExitCode.PARTLY

    def facts(self) -> dict[str, Any]:
        """For `--json`."""
        return {
            "system_table": self.system_table,
            "region": self.region,
            "endpoint_url": self.endpoint_url,
            "checked_only": self.checked_only,
            "ready": self.ready,
            "as_asked": self.as_asked,
            "missing": [finding.name for finding in self.missing],
            "findings": [
                {
                    "name": finding.name,
                    "ok": finding.ok,
                    "required": finding.required,
                    "told": finding.told,
                    "matters": matters(finding),
                }
                for finding in self.findings
            ],
        }


_CONFIG: Final = "config record"


def matters(finding: Finding) -> str:
    """Whether a missing thing matters; empty for what holds."""
    if finding.ok:
        return ""
    return "Required: writers refuse this table." if finding.required else _WHY_IT_MATTERS.get(finding.name, "")


def install(connection: Connection, wishes: Wishes) -> Report:
    """Create what is missing and report what holds."""
    wanted = wishes.over(_held(connection) or Installation())
    findings = create_system_table(connection.client, connection.store, connection.table, wanted, connection.time)
    return _report(connection, findings, checked_only=False)


def inspect(connection: Connection, wishes: Wishes) -> Report:
    """Report what holds; change nothing."""
    if not _exists(connection):
        absent = Finding(
            "table", ok=False, told=f"does not exist. Run: reliable-write init --system-table {connection.table}"
        )
        return _report(connection, [absent], checked_only=True)
    findings = check_system_table(connection.client, connection.table)
    if all(finding.ok for finding in findings if finding.required):
        findings = [*findings, _check_config(connection, wishes)]
    return _report(connection, findings, checked_only=True)


def _check_config(connection: Connection, wishes: Wishes) -> Finding:
    try:
        held = read_installation(connection.store, connection.table, connection.deadline())
    except ConfigurationError as error:
        return Finding(_CONFIG, ok=False, told=error.message)
    return compare_installations(wishes.over(held), held)


def _held(connection: Connection) -> Installation | None:
    """The installation that is there, so that what nobody asked to change is not reported as kept."""
    if not _exists(connection):
        return None
    try:
        item = connection.store.get(connection.table, CONFIG_KEY, connection.deadline())
    except CallFailed as failure:
        if failure.kind is FailureKind.VALIDATION:  # a table with another key: create_system_table says so
            return None
        raise
    return None if item is None else read_installation(connection.store, connection.table, connection.deadline())


def _exists(connection: Connection) -> bool:
    try:
        connection.client.describe_table(TableName=connection.table)
    except connection.client.exceptions.ResourceNotFoundException:
        return False
    return True


def _report(connection: Connection, findings: list[Finding], *, checked_only: bool) -> Report:
    meta = connection.client.meta
    return Report(connection.table, meta.region_name, meta.endpoint_url, checked_only, tuple(findings))


def _check_names(names: StampNames) -> None:
    for name in (names.full, names.update):
        if not _fits(name):
            raise CommandError(ExitCode.USAGE, "A stamp attribute's name has 1 to 255 bytes of UTF-8.")
    if names.full == names.update:
        raise CommandError(ExitCode.USAGE, f"Puts and updates need two stamp attributes; both would be {names.full!r}.")


def _fits(name: str) -> bool:
    try:
        return 0 < len(name.encode()) <= limits.KEY_ATTRIBUTE_NAME_BYTES_MAX
    except UnicodeEncodeError:  # an argument that is no UTF-8
        return False


assert get_args(Order) == ("strict", "clock")
