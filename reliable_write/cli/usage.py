"""The command group at the root: what it says of a wrong command line is told as text, whatever was typed."""

from __future__ import annotations

import contextlib
from collections.abc import Iterator
from typing import Any

from typer.core import TyperGroup

from reliable_write.cli.exits import paragraph


class InertGroup(TyperGroup):
    """A group whose usage errors quote arguments without letting them talk to the terminal."""

    def make_context(self, *arguments: Any, **more: Any) -> Any:
        """See click's `Command.make_context`: reads the options of the root."""
        with _inert_errors():
            return super().make_context(*arguments, **more)

    def invoke(self, *arguments: Any, **more: Any) -> Any:
        """See click's `Command.invoke`: reads all other words."""
        with _inert_errors():
            return super().invoke(*arguments, **more)


@contextlib.contextmanager
def _inert_errors() -> Iterator[None]:
    """Typer brings its own click or takes the one installed; the error is known by what it can do."""
    try:
        yield
    except Exception as error:
        text = getattr(error, "format_message", None)
        if callable(text):
            told = paragraph(str(text())).rstrip("\n")
            error.format_message = lambda: told  # type: ignore[attr-defined]  # it has one
        raise
