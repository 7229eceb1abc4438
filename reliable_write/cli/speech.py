"""How commands speak: data to stdout, talk to stderr, in lines that fit."""

from __future__ import annotations

import datetime as dt
import json
import sys
from collections.abc import Iterable
from typing import Any, Final

from rich.console import Console
from rich.text import Text

WIDTH_MAX: Final = 140
PROSE_WIDTH_MAX: Final = 100
"""Prose in longer lines is hard to read, however wide the terminal."""
LIST_ROWS: Final = 50
"""Shown where nobody asked for another number."""


def console(*, stderr: bool = False, width_max: int = WIDTH_MAX) -> Console:
    """A console that neither guesses colours for words nor runs over a readable width."""
    made = Console(stderr=stderr, highlight=False, emoji=False)
    made.width = min(made.width, width_max)
    return made


def say(text: str) -> None:
    """Talk, to stderr."""
    console(stderr=True, width_max=PROSE_WIDTH_MAX).print(Text(text))


def say_command(command: str, *, stderr: bool = True) -> None:
    """A command on a line of its own, never broken: it is copied."""
    console(stderr=stderr).print(Text(f"  {command}", style="bold"), soft_wrap=True)


def print_json(facts: Any) -> None:
    """One document."""
    sys.stdout.write(json.dumps(facts, indent=2, ensure_ascii=False) + "\n")


def print_jsonl(rows: Iterable[dict[str, Any]]) -> None:
    """One document a line, each out at once: somebody may be reading."""
    for row in rows:
        sys.stdout.write(json.dumps(row, ensure_ascii=False) + "\n")
        sys.stdout.flush()


def plural(count: int, one: str, many: str | None = None) -> str:
    """`1 write`, `2 writes`."""
    return f"{count:,} {one if count == 1 else many or one + 's'}"


def clip(text: str, width: int) -> str:
    """The text, cut to so many characters."""
    return text if len(text) <= width else text[: max(1, width - 1)] + "…"


def clock(milliseconds: int) -> str:
    """Wall time as people here write it."""
    return dt.datetime.fromtimestamp(milliseconds / 1000, tz=dt.UTC).strftime("%Y-%m-%d %H:%M:%S UTC")
