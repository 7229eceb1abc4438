"""The options that several commands share, declared once."""

import enum
import math
import re
import shlex
from typing import Annotated, Final, NamedTuple

import typer

SECONDS_MAX: Final = 1_000_000_000
"""Of every span and pause: some thirty years. A clock cannot be told to wait for much more."""


def _finite(given: float | None) -> float | None:
    """Bounds let `nan` through: it is neither below nor above."""
    if given is not None and not math.isfinite(given):
        raise typer.BadParameter(f"{given} is no number to go by.")
    return given


Profile = Annotated[
    str | None, typer.Option(metavar="NAME", help="Profile of the AWS configuration [RELIABLE_WRITE_PROFILE].")
]
Region = Annotated[str | None, typer.Option(metavar="NAME", help="AWS Region [RELIABLE_WRITE_REGION].")]
EndpointUrl = Annotated[
    str | None, typer.Option(metavar="URL", help="Another endpoint than AWS's [RELIABLE_WRITE_ENDPOINT_URL].")
]
SystemTable = Annotated[
    str | None, typer.Option(metavar="NAME", help="Table of the journal [RELIABLE_WRITE_SYSTEM_TABLE].")
]
AsLines = Annotated[bool, typer.Option("--jsonl", help="The same, one document a line.")]
Reason = Annotated[str, typer.Option(metavar="TEXT", help="Why; kept in the audit record.")]
DryRun = Annotated[bool, typer.Option("--dry-run", help="Only tell what would be done.")]
Yes = Annotated[bool, typer.Option("--yes", "-y", help="Do not ask.")]
Rate = Annotated[
    float | None,
    typer.Option(
        min=0.1, callback=_finite, metavar="N", help="At most so many writes a second; as fast as it goes else."
    ),
]
PlanOut = Annotated[
    str | None, typer.Option(metavar="FILE", help="Change nothing; write down what would be, for `writes apply`.")
]
States = Annotated[
    list[str] | None,
    typer.Option("--state", metavar="STATE", help="pending, quarantined or unreadable; may be repeated."),
]
Table = Annotated[str | None, typer.Option(metavar="NAME", help="Only writes to this table (reads every payload).")]
OlderThan = Annotated[str | None, typer.Option(metavar="SPAN", help="Committed longer ago: 90s, 10m, 2h, 1d.")]
ErrorText = Annotated[
    str | None, typer.Option("--error", metavar="TEXT", help="Only where the last error holds this text.")
]
WriteId = Annotated[str, typer.Argument(metavar="ID", help="The write's id.")]
WriteIds = Annotated[list[str] | None, typer.Argument(metavar="[ID]...", help="Write ids; or give filters.")]
WatchSeconds = Annotated[
    float,
    typer.Option(
        "--watch-seconds",
        min=0.0,
        max=SECONDS_MAX,
        callback=_finite,
        metavar="N",
        help="Look again so long after: who was renewed is alive; 0: one look.",
    ),
]
AsJson = Annotated[bool, typer.Option("--json", help="Facts for machines on stdout.")]
Debug = Annotated[bool, typer.Option("--debug", envvar="RELIABLE_WRITE_DEBUG", help="Show the traceback of an error.")]


class OrderChoice(enum.StrEnum):
    """`system_table.Order` as a choice; that room is too heavy to import for `--help`."""

    STRICT = "strict"
    CLOCK = "clock"


class RoleChoice(enum.StrEnum):
    """`permissions.Role` as a choice; a test compares them."""

    APP = "app"
    MONITOR = "monitor"
    ADMIN_READ = "admin-read"
    ADMIN_ACT = "admin-act"


class At(NamedTuple):
    """The connection options of one command line."""

    profile: str | None
    region: str | None
    endpoint_url: str | None
    system_table: str | None

    def told(self, command: str) -> str:
        """A command of ours as it must be typed to reach the same installation."""
        given = [f"--{name.replace('_', '-')} {shlex.quote(value)}" for name, value in self._asdict().items() if value]
        needs_them = re.match(r"reliable-write [a-z]", command)  # `reliable-write --version` takes none
        return " ".join([command, *given]) if needs_them else command


class Form(NamedTuple):
    """Whom the output is for."""

    as_json: bool = False
    lines: bool = False

    @property
    def machine(self) -> bool:
        """Whether a program reads stdout."""
        return self.as_json or self.lines
