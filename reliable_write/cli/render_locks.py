"""What a person sees of locks; what cannot be known from one look is not said."""

from __future__ import annotations

import json
from collections.abc import Sequence
from typing import Final, Self

from rich.status import Status
from rich.text import Text

from reliable_write.cli.desk import Desk
from reliable_write.cli.lock_looks import Life, Listing, Seen
from reliable_write.cli.showing import jsonable
from reliable_write.cli.speech import PROSE_WIDTH_MAX, clip, clock, console, plural, say, say_command
from reliable_write.explain import duration
from reliable_write.values import encode_item

_STYLES: Final = {Life.RENEWED: "green", Life.LAPSED: "bold red", Life.UNCHANGED: "yellow", Life.FREE: "dim"}
_NAME_WIDTH: Final = 32
_OWNER_WIDTH: Final = 40


class Scanning:
    """How far a look at a whole table is; a line on stderr, on a terminal only."""

    def __init__(self, table: str, *, silent: bool) -> None:
        talk = console(stderr=True)
        self._table = table
        self._status = (
            Status(Text(f"reading {table} ..."), console=talk, spinner="dots")
            if talk.is_terminal and not silent
            else None
        )

    def __enter__(self) -> Self:
        if self._status is not None:
            self._status.start()
        return self

    def __exit__(self, *error: object) -> None:
        if self._status is not None:
            self._status.stop()

    def read(self, items: int) -> None:
        """So many items were read."""
        self._tell(f"reading {self._table}: {plural(items, 'item')} ...")

    def waiting(self, seconds: float) -> None:
        """It is waited for a second look."""
        self._tell(f"watching for {seconds:g} s ...")

    def _tell(self, text: str) -> None:
        if self._status is not None:
            self._status.update(Text(text))


def told(seen: Seen) -> str:
    """What is known, in a sentence."""
    state = seen.state
    lease = f"{state.lease_seconds or 0:g} s"
    silent = f"{state.owner} gave no sign of life for {seen.unchanged_seconds or 0:.1f} s"
    match seen.life:
        case Life.FREE:
            return "Nobody holds it."
        case Life.HELD:
            return f"{state.owner} holds it, or did when he died: one look cannot tell. Its lease is {lease}."
        case Life.RENEWED:
            return f"{state.owner} holds it and is alive: it changed while it was watched."
        case Life.UNCHANGED:
            return f"{silent} of a lease of {lease}. That is no proof: watch for a whole lease."
        case Life.LAPSED:
            return f"{silent}, a whole lease: dead, stopped, or cut off. Whoever waits for the lock takes it over."


def show_list(locks: Sequence[Seen], limit: int | None) -> None:
    """One line for each."""
    out = console()
    if not locks:
        out.print(Text("No locks are held."))
        return
    out.print(
        Text(f"{'key':<{_NAME_WIDTH}}  {'is':<9}  {'token':>15}  {'lease':>8}  owner", style="dim"), soft_wrap=True
    )
    for seen in locks[:limit] if limit else locks:
        state = seen.state
        lease = "-" if state.lease_seconds is None else duration(state.lease_seconds)
        name = clip(seen.name, _NAME_WIDTH) if out.is_terminal else seen.name
        line = Text.assemble(
            (f"{name:<{_NAME_WIDTH}}", "bold"),
            (f"  {seen.life:<9}", _STYLES.get(seen.life, "")),
            f"  {state.token or 0:>15}  {lease:>8}  {clip(state.owner or '-', _OWNER_WIDTH)}",
        )
        out.print(line, soft_wrap=True)
    if limit and len(locks) > limit:
        say(f"The first {limit:,} of {len(locks):,}; --limit 0 shows all, --jsonl is for programs.")


def say_rest(desk: Desk, listing: Listing, *, watched: bool) -> None:
    """What the list does not tell."""
    say(f"{plural(listing.items, 'item')} read.")
    if listing.unreadable:
        say(f"{plural(listing.unreadable, 'item')} with attributes named lock_... that no lock wrote: left out.")
    longest = max((one.state.lease_seconds or 0 for one in listing.locks), default=0)
    if longest and not watched:
        say("One look cannot tell who of them lives. To see who is renewed:")
        say_command(desk.told(f"reliable-write locks list {listing.table} --watch-seconds {longest:g}"))


def show_lock(seen: Seen, *, reveal: bool) -> None:
    """Everything that is known of one."""
    out = console(width_max=PROSE_WIDTH_MAX)
    state = seen.state
    out.print(Text.assemble((seen.name, "bold"), f"  in {seen.table}"), soft_wrap=True)
    lines = {"token": str(state.token)}
    if state.held:
        since = "?" if state.since_milliseconds is None else clock(state.since_milliseconds)
        lines |= {"owner": str(state.owner), "since": f"{since}, by the holder's own clock"}
        lines |= {"version": str(state.record_version)}
    if reveal:
        lines["data"] = json.dumps(jsonable(encode_item({"data": state.data}, "lock")["data"]), ensure_ascii=False)
    for name, value in lines.items():
        out.print(Text.assemble((f"  {name:<9}", "dim"), value), soft_wrap=True)
    out.print(Text(told(seen), style=_STYLES.get(seen.life, "")))


def preview(seen: Seen) -> None:
    """What is about to be done, before anybody is asked."""
    say(f"To release: {seen.name} in {seen.table}, token {seen.state.token}.")
    say(told(seen))
    say("A holder who lives is told that it is lost, and its guarded writes are refused. Nothing else stops it.")


def show_release(seen: Seen, *, done: bool) -> None:
    """What was done, or would be."""
    what = "Released" if done else "Would be released; nothing was changed"
    console(width_max=PROSE_WIDTH_MAX).print(Text(f"{what}: {seen.name} in {seen.table}."), soft_wrap=True)
