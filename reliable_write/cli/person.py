"""Who sits at the keyboard, and asking them."""

from __future__ import annotations

import getpass
import socket
import sys

import typer

from reliable_write.cli.exits import CommandError, ExitCode


def operator_name() -> str:
    """Who does it, as far as the machine knows; kept in the audit record."""
    try:
        name = getpass.getuser()
    except (OSError, KeyError):  # a container with a user id and no name for it
        name = "unknown"
    return f"{name}@{socket.gethostname()}"


def at_terminal() -> bool:
    """Whether somebody can be asked: questions go to stderr, answers come from stdin."""
    return sys.stdin.isatty() and sys.stderr.isatty()


def confirm(question: str) -> None:
    """Go on only on a yes. Raises `CommandError` for a no, or where nobody can be asked."""
    if not at_terminal():
        raise CommandError(ExitCode.USAGE, "There is no terminal to ask at. Say --yes to do it, or --dry-run to look.")
    if not typer.confirm(question, err=True):
        raise CommandError(ExitCode.PARTLY, "Nothing was changed.")


def confirm_count(question: str, count: int) -> None:
    """The same for what cannot be taken back: the number of writes is typed, so that nobody says yes by habit."""
    if not at_terminal():
        raise CommandError(ExitCode.USAGE, "There is no terminal to ask at. Say --yes to do it, or --dry-run to look.")
    typed = typer.prompt(f"{question} Type their number to go on", err=True, default="", show_default=False)
    if str(typed).strip().replace(",", "") != str(count):
        raise CommandError(ExitCode.PARTLY, "Nothing was changed.")


def asked_reason(given: str) -> str:
    """The reason from the command line, or from the person. Raises `CommandError` where there is none."""
    if given.strip():
        return given.strip()
    if at_terminal():
        typed = str(typer.prompt("Why? (kept in the audit record)", err=True, default="", show_default=False)).strip()
        if typed:
            return typed
    raise CommandError(
        ExitCode.USAGE, "Say why with --reason TEXT: it is kept in the audit record. Nothing was changed."
    )
