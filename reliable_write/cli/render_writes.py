"""What a person sees of writes: the installation at a glance, lists, one write, explanations."""

from __future__ import annotations

import json
from collections.abc import Iterator, Sequence
from typing import Final, Self

from rich.console import Console, Group
from rich.live import Live
from rich.padding import Padding
from rich.text import Text

from reliable_write.cli.deeds import Selection
from reliable_write.cli.desk import Desk
from reliable_write.cli.listing import Listing, Overview, Row
from reliable_write.cli.showing import Shown, verb
from reliable_write.cli.speech import (
    PROSE_WIDTH_MAX,
    clip,
    clock,
    console,
    plural,
    say,
    say_command,
)
from reliable_write.entry import State
from reliable_write.explain import Explanation, duration, is_settled
from reliable_write.operators import Comparison, Found

_OPERATIONS_SHOWN: Final = 40
_TABLES_SHOWN: Final = 8
_STYLES: Final = {State.PENDING.value: "yellow", State.QUARANTINED.value: "bold red", "unreadable": "bold magenta"}
_FOUND_STYLES: Final = {
    Found.APPLIED: "green",
    Found.SUPERSEDED: "green",
    Found.DELETED_LATER: "green",
    Found.SKIPPED: "dim",
    Found.NOT_APPLIED: "yellow",
}


# --- status -------------------------------------------------------------------------------------------------------


def show_status(desk: Desk, seen: Overview) -> None:
    """One screen, the verdict last."""
    out = console(width_max=PROSE_WIDTH_MAX)
    where = seen.place
    out.print(Text.assemble((where["system_table"], "bold"), f"  {where['region']}  {where['endpoint_url']}"))
    counts = seen.listing.counts
    oldest = seen.listing.oldest(State.PENDING)
    pending = f", the oldest for {duration(oldest.age_seconds or 0)}" if oldest else ""
    overdue = f", {seen.overdue:,} overdue" if seen.overdue else ""
    out.print(_line("pending", f"{counts[State.PENDING]:,}{pending}{overdue}", "yellow" if seen.overdue else ""))
    aside = seen.listing.oldest(State.QUARANTINED)
    since = f", the oldest for {duration(aside.age_seconds or 0)}" if aside else ""
    out.print(_line("quarantined", f"{counts[State.QUARANTINED]:,}{since}", "bold red" if aside else ""))
    unreadable = counts["unreadable"]
    out.print(_line("unreadable", f"{unreadable:,}", "bold magenta" if unreadable else ""))
    out.print(_line("monitors", _monitors_line(seen), "" if seen.monitors_alive else "bold yellow"))
    for reason, count in seen.listing.reasons[:5]:
        out.print(Text(clip(f"  {count:>7,}  {reason}", out.width), style="dim"), soft_wrap=True)
    for unread in seen.listing.unread_shards[:3]:
        out.print(Text(f"not read: {unread}", style="bold red"))
    _status_verdict(out, desk, seen)


def _line(name: str, told: str, style: str) -> Text:
    return Text.assemble((f"  {name:<12}", "dim"), (told, style))


def _monitors_line(seen: Overview) -> str:
    alive = [heartbeat.monitor for heartbeat in seen.heartbeats if heartbeat.alive]
    if not alive:
        return "none alive"
    names = ", ".join(alive[:4]) + (f" and {len(alive) - 4} more" if len(alive) > 4 else "")  # noqa: PLR2004 - a line
    return f"{len(alive)} alive: {names}"


def _status_verdict(out: Console, desk: Desk, seen: Overview) -> None:
    counts = seen.listing.counts
    if seen.listing.unread_shards:
        out.print(Text("Not all of the journal could be read, so there may be more. Run:", style="bold red"))
        command = "reliable-write doctor"
    elif counts["unreadable"]:
        out.print(Text("Some entries cannot be read. Look at them:", style="bold magenta"))
        command = "reliable-write writes list --state unreadable"
    elif counts[State.QUARANTINED]:
        out.print(Text("Some writes wait for a person. Look at them:", style="bold red"))
        command = "reliable-write writes list --state quarantined"
    elif seen.overdue:
        why = "" if seen.monitors_alive else ", and no monitor is alive"
        out.print(Text(f"Some writes should be finished by now{why}. Run:", style="yellow"))
        command = "reliable-write doctor"
    else:
        out.print(Text("Nothing is stuck.", style="green"))
        return
    say_command(desk.told(command), stderr=False)


# --- list ---------------------------------------------------------------------------------------------------------


def show_list(desk: Desk, listing: Listing, limit: int | None) -> None:
    """The oldest first; on a terminal as many as fit a look, unless told otherwise."""
    out = console()
    shown = listing.rows if not limit else listing.rows[:limit]
    if not listing.rows:
        out.print(Text("No entries." if not listing.unread_shards else "No entries were read."))
    for line in list_lines(shown, out.width if out.is_terminal else None):
        out.print(line, soft_wrap=True)
    say_incomplete(desk, listing)
    if len(shown) < len(listing.rows):
        say(f"The oldest {len(shown):,} of {len(listing.rows):,}; --limit 0 shows all, --jsonl is for programs.")
    elif listing.rows:
        say(f"{plural(len(listing.rows), 'entry', 'entries')}.")


def list_lines(rows: Sequence[Row], width: int | None) -> Iterator[Text]:
    """One line for each row; where the reason has no room beside it, it gets a line of its own. Uncut where the width
    is None: somebody is searching in it.
    """
    if not rows:
        return
    head = f"{'write id':<36}  {'state':<11}  {'age':>11}  {'tries':>5}"
    beside = width is None or width >= len(head) + 32
    yield Text(f"{head}  why" if beside else head, style="dim")
    for row in rows:
        yield from _row_lines(row, width, len(head), beside=beside)


def _row_lines(row: Row, width: int | None, head: int, *, beside: bool) -> Iterator[Text]:
    age = "?" if row.age_seconds is None else duration(row.age_seconds)
    why = row.reason or ""
    if row.tables is not None:
        why = f"[{', '.join(row.tables)}] {why}".rstrip()
    line = Text.assemble(
        f"{row.write_id:<36}  ", (f"{row.state:<11}", _STYLES.get(row.state, "")), f"  {age:>11}  {row.attempts:>5}"
    )
    if not beside:
        yield line
        if why:
            yield Text(clip(f"    {why}", width or head), style="dim")
        return
    line.append(f"  {why if width is None else clip(why, width - head - 2)}".rstrip())
    yield line


def say_incomplete(desk: Desk, seen: Listing | Selection) -> None:
    """What is not in a list although it might belong there, or why it may be empty."""
    if seen.unread_shards:
        say(f"{_not_complete(seen)}. Run:")
        say_command(desk.told("reliable-write doctor"))
    if seen.without_tables:
        say(f"{plural(seen.without_tables, 'entry', 'entries')} left out: what they write to cannot be read.")
    if seen.other_tables:
        some = ", ".join(seen.other_tables[:_TABLES_SHOWN]) + (" ..." if len(seen.other_tables) > _TABLES_SHOWN else "")
        say(f"No entry writes to a table of that name; they write to {some}.")


def _not_complete(seen: Listing | Selection) -> str:
    return f"NOT COMPLETE: {plural(len(seen.unread_shards), 'shard')} could not be read; {seen.unread_shards[0]}"


_WATCHED_ROWS_MAX: Final = 200
"""More than a screen has lines."""


class Watch:
    """A list that is drawn again and again in place, until Ctrl-C."""

    def __init__(self) -> None:
        self._console = console()
        self._live = Live(console=self._console, auto_refresh=False, screen=True)

    def __enter__(self) -> Self:
        self._live.__enter__()
        return self

    def __exit__(self, *error: object) -> None:
        self._live.__exit__(None, None, None)

    def draw(self, listing: Listing, at_milliseconds: int) -> None:
        """What is there now, as much as fits."""
        lines = list(watch_lines(listing, at_milliseconds, self._console.width))
        self._live.update(Group(*lines[: max(1, self._console.height - 1)]), refresh=True)


def watch_lines(listing: Listing, at_milliseconds: int, width: int) -> Iterator[Text]:
    """One look: the time and the counts, then what could not be read, then the rows. Each line fits the width."""
    counts = ", ".join(f"{count:,} {state}" for state, count in listing.counts.items())
    yield Text(clip(f"{clock(at_milliseconds)[11:]}  {counts}; Ctrl-C ends", width), style="bold")
    if listing.unread_shards:
        yield Text(clip(_not_complete(listing), width), style="bold red")
    yield from list_lines(listing.rows[:_WATCHED_ROWS_MAX], width)


# --- one write ----------------------------------------------------------------------------------------------------


def show_write(desk: Desk, shown: Shown, *, everything: bool) -> None:
    """Its head, then each operation beside its table."""
    out = console()
    entry, row = shown.examination.entry, shown.row
    out.print(Text.assemble(("write      ", "dim"), (entry.write_id, "bold")))
    out.print(Text.assemble(("state      ", "dim"), (row.state, _STYLES.get(row.state, ""))))
    committed = f"{clock(entry.committed_at_milliseconds)}, {duration(row.age_seconds or 0)} ago"
    out.print(Text.assemble(("committed  ", "dim"), committed))
    by = f", last by {entry.owner}" if entry.owner else ""
    out.print(Text.assemble(("attempts   ", "dim"), f"{entry.attempts}{by}; epoch {entry.epoch}"))
    if entry.last_error:
        out.print(Text.assemble(("last error ", "dim"), entry.last_error))
    if shown.examination.unreadable is not None:
        out.print(Text(f"Its operations cannot be read: {shown.examination.unreadable}.", style="bold magenta"))
    else:
        _show_operations(out, shown, everything=everything)
    say("What it means, and what to do:")
    say_command(desk.told(f"reliable-write writes explain {entry.write_id}"))


def _show_operations(out: Console, shown: Shown, *, everything: bool) -> None:
    comparisons = shown.examination.comparisons
    out.print(Text(", ".join(f"{count:,} {found}" for found, count in shown.counts.items()), style="bold"))
    chosen = list(comparisons)
    if len(chosen) > _OPERATIONS_SHOWN and not everything:
        chosen = [comparison for comparison in comparisons if not is_settled(comparison)][:_OPERATIONS_SHOWN]
    place_width = max((len(comparison.place) for comparison in chosen), default=0)
    table_width = max((len(comparison.action.table) for comparison in chosen), default=0)
    for comparison in chosen:
        _show_operation(out, comparison, place_width, table_width)
        if shown.reveal:
            _reveal(out, comparison, shown)
    if len(chosen) < len(comparisons):
        say(f"{len(comparisons) - len(chosen):,} more are not shown here; --all shows them.")
    if not shown.reveal:
        say("Keys and values are hidden; --reveal shows them.")


def _show_operation(out: Console, comparison: Comparison, place_width: int, table_width: int) -> None:
    found = str(comparison.found)
    if comparison.by is not None:
        found += f" {'by' if comparison.found is Found.SUPERSEDED else ':'} {comparison.by}".replace(" : ", ": ")
    if comparison.reason:
        found += f" ({comparison.reason})"
    action = f"{verb(comparison):<6}  {comparison.action.table:<{table_width}}"
    style = _FOUND_STYLES.get(comparison.found, "bold red")
    out.print(Text.assemble(f"  {comparison.place:<{place_width}}  {action}  ", (found, style)), soft_wrap=True)


def _reveal(out: Console, comparison: Comparison, shown: Shown) -> None:
    facts = next(
        facts
        for facts, one in zip(shown.facts()["operations"], shown.examination.comparisons, strict=True)
        if one is comparison
    )
    for label, name in (("key", "key"), ("journal", "journal_item"), ("table", "table_item")):
        text = json.dumps(facts[name], ensure_ascii=False) if facts[name] is not None else "(no item)"
        if name != "journal_item" or facts[name] is not None:
            out.print(Text(f"      {label:<8}{text}", style="dim"), soft_wrap=True)


def show_explanation(explanation: Explanation, commands: Sequence[str]) -> None:
    """Four short parts, the commands last and unbroken."""
    out = console(width_max=PROSE_WIDTH_MAX)
    out.print(Text.assemble(("write ", "dim"), (explanation.write_id, "bold")), soft_wrap=True)
    out.print(Text(explanation.headline, style="bold"))
    parts = [
        ("What happened", explanation.happened),
        ("What holds now", explanation.holds),
        ("What will happen", explanation.will_happen),
    ]
    for title, sentences in parts:
        if sentences:
            out.print(Text(title, style="cyan"))
            for sentence in sentences:
                out.print(Padding(Text(sentence), (0, 0, 0, 2)))
    if explanation.advice:
        out.print(Text("What to do", style="cyan"))
    for advice, command in zip(explanation.advice, commands, strict=True):
        out.print(Padding(Text(f"{advice.why}:"), (0, 0, 0, 2)))
        out.print(Text(f"    {command}", style="bold"), soft_wrap=True)
