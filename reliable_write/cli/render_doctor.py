"""What a person sees of a diagnosis."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from typing import Final

from rich.console import Console
from rich.text import Text

from reliable_write.cli.doctor import Check, Diagnosis, Health
from reliable_write.cli.speech import (
    PROSE_WIDTH_MAX,
    console,
)

_HEALTH_WORDS: Final = {
    Health.OK: ("ok", "green"),
    Health.ATTENTION: ("look", "bold yellow"),
    Health.FAILED: ("WRONG", "bold red"),
    Health.SKIPPED: ("-", "dim"),
}


def show_diagnosis(diagnosis: Diagnosis) -> None:
    """All checks, then the verdict in the last line."""
    out = console(width_max=PROSE_WIDTH_MAX)
    place = diagnosis.place
    out.print(Text.assemble((place["system_table"], "bold"), f"  {place['region']}  {place['endpoint_url']}"))
    checks = list(_grouped(diagnosis.checks))
    width = max(len(check.name) for check in checks)
    for check in checks:
        _show_check(out, check, width)
    styles = {0: "bold green", 1: "bold yellow"}
    out.print(Text(diagnosis.verdict, style=styles.get(int(diagnosis.exit_code), "bold red")))


def _grouped(checks: Sequence[Check]) -> Iterator[Check]:
    """Permissions that are there in one row for each table; everything else as it is."""
    allowed: dict[str, list[str]] = {}
    for check in checks:
        if check.action and check.health is Health.OK:
            allowed.setdefault(check.name, []).append(check.action)
    for check in checks:
        actions = allowed.pop(check.name, None) if check.action else None
        if actions is not None:
            yield Check(check.name, Health.OK, ", ".join(actions))
        if not (check.action and check.health is Health.OK):
            yield Check(check.name, check.health, f"{check.action} {check.told}".lstrip(), check.run)


def _show_check(out: Console, check: Check, width: int) -> None:
    word, style = _HEALTH_WORDS[check.health]
    room = max(20, out.width - width - 11)
    first, *more = Text(check.told).wrap(out, room)
    out.print(Text.assemble(("  "), (f"{word:<5}", style), f"  {check.name:<{width}}  ", first))
    for line in more:
        out.print(Text.assemble(" " * (width + 11), line))
    if check.run:
        out.print(Text(f"         run: {check.run}", style="bold"), soft_wrap=True)
