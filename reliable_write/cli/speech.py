"""How commands speak: data to stdout, talk to stderr, in lines that fit."""

from __future__ import annotations

import datetime as dt
import json
import sys
from collections.abc import Iterable
from itertools import accumulate
from typing import Any, Final

from rich.console import Console, ConsoleOptions, RenderableType
from rich.segment import Segment
from rich.text import Span, Text

from reliable_write.settings import printable_mark

WIDTH_MAX: Final = 140
PROSE_WIDTH_MAX: Final = 100
"""Prose in longer lines is hard to read, however wide the terminal."""
LIST_ROWS: Final = 50
"""Shown where nobody asked for another number."""


class InertConsole(Console):
    """Shows every text as text, on one line of its own: names, reasons and owners come from tables and command lines,
    and must not move a cursor, change a title or begin a line that looks like ours.

    Here and not where texts are made, so that no renderer can forget it.
    """

    def render(self, renderable: RenderableType, options: ConsoleOptions | None = None) -> Iterable[Segment]:
        """See `Console.render`; whatever is nested in a renderable comes through here too."""
        if isinstance(renderable, str):
            renderable = Text(renderable)
        return super().render(inert(renderable) if isinstance(renderable, Text) else renderable, options)


def inert(text: Text) -> Text:
    r"""The same with `\x1b` for what is no printable character, styled as it was."""
    if text.plain.isprintable():
        return text
    parts = list(map(printable_mark, text.plain))
    begins = [0, *accumulate(map(len, parts))]
    made = text.blank_copy("".join(parts))
    made.spans = [Span(begins[span.start], begins[span.end], span.style) for span in text.spans]
    return made


def console(*, stderr: bool = False, width_max: int = WIDTH_MAX) -> Console:
    """A console that neither guesses colours for words nor runs over a readable width."""
    made = InertConsole(stderr=stderr, highlight=False, emoji=False, markup=False)
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
    sys.stdout.write(json_text(facts, indent=2) + "\n")


def print_jsonl(rows: Iterable[dict[str, Any]]) -> None:
    """One document a line, each out at once: somebody may be reading."""
    for row in rows:
        sys.stdout.write(json_text(row) + "\n")
        sys.stdout.flush()


def json_text(facts: Any, indent: int | None = None) -> str:
    """JSON that is readable in any script, and can be shown on any terminal and written to any stream."""
    text = json.dumps(facts, indent=indent, ensure_ascii=False)
    return text if text.isprintable() else "".join(map(_json_mark, text))


def _json_mark(mark: str) -> str:
    """JSON's own escape of what it would leave as it is: C1 controls, directions of text, halves of surrogate pairs.

    A line feed can only be one between values: those in them are escaped.
    """
    return mark if mark.isprintable() or mark == "\n" else json.dumps(mark)[1:-1]


def plural(count: int, one: str, many: str | None = None) -> str:
    """`1 write`, `2 writes`."""
    return f"{count:,} {one if count == 1 else many or one + 's'}"


def clip(text: str, width: int) -> str:
    """The text, cut to so many characters."""
    return text if len(text) <= width else text[: max(1, width - 1)] + "…"


def clock(milliseconds: int) -> str:
    """Wall time as people here write it."""
    return dt.datetime.fromtimestamp(milliseconds / 1000, tz=dt.UTC).strftime("%Y-%m-%d %H:%M:%S UTC")
