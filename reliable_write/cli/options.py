"""The options that several commands share, declared once."""

import enum
from typing import Annotated

import typer

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
AsJson = Annotated[bool, typer.Option("--json", help="Facts for machines on stdout.")]
Debug = Annotated[bool, typer.Option("--debug", envvar="RELIABLE_WRITE_DEBUG", help="Show the traceback of an error.")]


class OrderChoice(enum.StrEnum):
    """`system_table.Order` as a choice; that room is too heavy to import for `--help`."""

    STRICT = "strict"
    CLOCK = "clock"
