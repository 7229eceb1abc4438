"""All that a person sees: the only room that knows Rich. Data to stdout, talk to stderr."""

from __future__ import annotations

import json
import shlex
from typing import Any, Final, Self

from rich import box
from rich.console import Console, Group
from rich.padding import Padding
from rich.status import Status
from rich.table import Table
from rich.text import Text

from reliable_write.cli import speech
from reliable_write.cli.demo import (
    DemoFacts,
    EngineFacts,
    HalfWritten,
    JournalFacts,
    RecoveryFacts,
    ServiceFacts,
    TableState,
)
from reliable_write.cli.installation import Report, matters
from reliable_write.cli.repair import ForeignStamps

_INDENT: Final = (0, 0, 0, 3)


def _console(*, stderr: bool = False) -> Console:
    return speech.console(stderr=stderr, width_max=speech.PROSE_WIDTH_MAX)


def _print_json(facts: dict[str, Any]) -> None:
    print(json.dumps(facts, indent=2, default=str))  # noqa: T201 - this is the output


def _table(*columns: str, right: tuple[str, ...] = ()) -> Table:
    table = Table(box=box.SIMPLE_HEAD, show_edge=False, pad_edge=False, header_style="dim", padding=(0, 2, 0, 0))
    for column in columns:
        table.add_column(column, justify="right" if column in right else "left")
    return table


# --- init ---------------------------------------------------------------------------------------------------------


def show_installation(report: Report, *, as_json: bool) -> None:
    """What holds and what is missing after `init`."""
    if as_json:
        _print_json(report.facts())
        return
    console = _console()
    console.print(Text.assemble(("System table ", ""), (report.system_table, "bold"), f" at {report.endpoint_url}"))
    table = _table("", "property", "what holds")
    for finding in report.findings:
        word, style = ("ok", "green") if finding.ok else ("WRONG", "bold red") if finding.required else ("no", "yellow")
        told = [Text(finding.told)]
        if reason := matters(finding):
            told.append(Text(reason, style="dim"))
        table.add_row(Text(word, style=style), finding.name, Group(*told))
    console.print(table)
    console.print(_installation_verdict(report))


def _installation_verdict(report: Report) -> Text:
    if not report.ready:
        return Text("Not usable yet: what is marked WRONG must be put right first.", style="bold red")
    if not report.as_asked:
        return Text("Ready, but not as asked: the installation was kept as it was made.", style="yellow")
    optional = len(report.missing)
    if not optional:
        return Text("Ready.", style="bold green")
    return Text(f"Ready. {optional} of the things that only make it safer {'is' if optional == 1 else 'are'} missing.")


# --- repair-stamp -------------------------------------------------------------------------------------------------


def show_foreign_stamps(found: ForeignStamps) -> None:
    """What is about to be taken off, before anybody is asked."""
    _console(stderr=True).print(Text(f"In {found.table}, on the item {json.dumps(found.given_key, default=str)}:"))
    _tell_foreign(_console(stderr=True), found)


def show_repair(found: ForeignStamps, *, done: bool, as_json: bool) -> None:
    """What was taken off, or would be."""
    if as_json:
        _print_json(found.facts(done=done))
        return
    console = _console()
    names = " and ".join(found.foreign)
    if done:
        console.print(Text(f"Taken off: {names}. Reliable writes to this item work again."))
        return
    console.print(Text(f"Would take off {names}; nothing was changed."))
    _tell_foreign(console, found)


def _tell_foreign(console: Console, found: ForeignStamps) -> None:
    for name, what in found.foreign.items():
        console.print(Text(f"  {name}: {what}"))


# --- demo ---------------------------------------------------------------------------------------------------------


class DemoScreen:
    """Tells the acts of the demo as they end, with a quiet spinner on stderr in between on a terminal."""

    def __init__(self, *, silent: bool) -> None:
        self._silent = silent
        self.console = _console()
        self._talk = _console(stderr=True)
        self._status: Status | None = None
        self._told_title = False

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *error: object) -> None:
        self._stop_waiting()  # or the cursor stays hidden behind an act that failed

    def waiting(self, what: str) -> None:
        """See `Audience.waiting`."""
        self._stop_waiting()
        if self._silent:
            return
        if not self._told_title:
            self._told_title = True
            self.console.print(Text.assemble(("All of an order or nothing, ", "bold"), "whatever is killed on the way"))
        if self._talk.is_terminal:
            self._status = self._talk.status(Text(f"{what} ..."), spinner="dots")
            self._status.start()

    def engine_ready(self, facts: EngineFacts) -> None:
        """See `Audience.engine_ready`."""
        self._stop_waiting()
        if self._silent:
            return
        self._act("1", "A shop opens", facts.seconds)
        self._line(f"engine    {facts.name} in process {facts.pid}, {facts.endpoint_url}, in memory")
        self._line(f"tables    {', '.join(facts.tables)}")
        self._line("an order  is one ReliableWriteScope over all four")

    def service_ended(self, service: ServiceFacts, half: HalfWritten) -> None:
        """See `Audience.service_ended`."""
        self._stop_waiting()
        if self._silent:
            return
        took = service.commit_milliseconds_median
        pace = f", {took:.1f} ms each (median)" if took is not None else ""
        self._act("2", f"Its service is killed in the middle of {half.order}", service.seconds)
        self._line(f"process {service.pid} wrote {_count(service.orders_acknowledged, 'order', 'orders')}{pace},")
        self._line(
            "and was ended by ",
            (f"{service.killed_by} (signal {-service.returncode})", "bold red"),
            ". What is there of it:",
        )
        self._show(_half_table(half))
        self._line(f"write id  {half.write_id}")
        self._line(f"half written: {half.found} of {half.expected} items. The journal holds all {half.expected}.")

    def recovered(self, journal: JournalFacts, facts: RecoveryFacts, journal_entries_after: int) -> None:
        """See `Audience.recovered`."""
        self._stop_waiting()
        if self._silent:
            return
        ended = ", ".join(f"{count} {kind}" for kind, count in facts.resumed.items())
        self._act("3", "Another process finishes it from the journal", journal.seconds + facts.seconds)
        self._line(f"look        {_kinds(journal)}")
        self._line(f"resume_all  {ended}, in {facts.seconds:.2f} s")
        self._line(f"look        {_count(journal_entries_after, 'entry', 'entries')}")

    def verified(self, facts: DemoFacts) -> None:
        """Every table against what must be in it, and the verdict."""
        self._act("4", "Every table is read back", facts.verified_seconds)
        self._show(_tables_table(facts.tables))
        for check in facts.checks:
            word, style = ("ok    ", "green") if check.ok else ("FAILED", "bold red")
            self._line((word, style), f" {check.name}")
        self.console.print()
        self._verdict(facts)

    def _verdict(self, facts: DemoFacts) -> None:
        if not facts.ok:
            self.console.print(Text("FAILED: a check above does not hold.", style="bold red"))
            return
        said = (
            f"{_count(facts.orders_committed, 'order', 'orders')} committed, {facts.orders_whole} whole, "
            f"{facts.orders_committed - facts.orders_whole} half. One kill -9, {facts.seconds:.1f} s in all."
        )
        self.console.print(Text(said, style="bold green"))
        self.console.print(Text("Next: README.md, then reliable-write demo --keep, reliable-write init --help"))

    def keeping(self, endpoint_url: str) -> None:
        """How to look around in the engine that is kept."""
        for line in (
            f"The engine stays at {endpoint_url} until Ctrl-C. To look around:",
            "  export AWS_ACCESS_KEY_ID=local AWS_SECRET_ACCESS_KEY=local AWS_DEFAULT_REGION=us-east-1",
            f"  reliable-write init --check --endpoint-url {shlex.quote(endpoint_url)}",
        ):
            self._talk.print(Text(line), soft_wrap=True)  # commands are copied

    def _stop_waiting(self) -> None:
        if self._status is not None:
            self._status.stop()
            self._status = None

    def _act(self, number: str, title: str, seconds: float) -> None:
        left = Text.assemble((f"{number}  ", "cyan"), (title, "bold"))
        time = Text(f"{seconds:.2f} s", style="dim")
        gap = max(1, self.console.width - left.cell_len - time.cell_len)
        self.console.print()
        self.console.print(Text.assemble(left, " " * gap, time))

    def _line(self, *parts: str | tuple[str, str]) -> None:
        self.console.print(Padding(Text.assemble(*parts), _INDENT, expand=False))

    def _show(self, table: Table) -> None:
        self.console.print()
        self.console.print(Padding(table, _INDENT, expand=False))
        self.console.print()


def show_demo(facts: DemoFacts, screen: DemoScreen, *, as_json: bool) -> None:
    """The end of the demo."""
    if as_json:
        _print_json(facts.facts())
    else:
        screen.verified(facts)


def _half_table(half: HalfWritten) -> Table:
    table = _table("table", "there", "of", "missing", right=("there", "of"))
    for state in half.tables:
        style = "green" if state.whole else "yellow" if state.found else "red"
        table.add_row(state.table, Text(str(state.found), style=style), str(state.expected), _short(half, state))
    return table


def _tables_table(states: tuple[TableState, ...]) -> Table:
    table = _table(
        "table", "expected", "found", "missing", "surplus", right=("expected", "found", "missing", "surplus")
    )
    for state in states:
        found = Text(str(state.found), style="green" if state.whole else "bold red")
        table.add_row(state.table, str(state.expected), found, str(len(state.missing)), str(state.surplus))
    return table


def _short(half: HalfWritten, state: TableState) -> str:
    """Missing keys without the order's own name, which stands above."""
    keys = [" ".join(part for part in key.split(" / ") if part != half.order) or half.order for key in state.missing]
    return ", ".join(keys) if keys else "-"


def _kinds(journal: JournalFacts) -> str:
    parts = [
        (journal.half_written, "half written"),
        (journal.not_begun, "not begun"),
        (journal.whole, "whole but not yet removed"),
    ]
    told = ", ".join(f"{count} {kind}" for count, kind in parts if count)
    return f"{_count(journal.entries, 'entry', 'entries')}: {told}"


def _count(number: int, one: str, many: str) -> str:
    return f"{number} {one if number == 1 else many}"
