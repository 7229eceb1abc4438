"""How an upload looks: a bar on a terminal, a line now and then elsewhere, and what became of each file at the end."""

from __future__ import annotations

import contextlib
import threading
import time
from collections.abc import Iterator, Sequence
from typing import Final

from rich.console import Console
from rich.filesize import decimal
from rich.padding import Padding
from rich.progress import BarColumn, DownloadColumn, Progress, TextColumn, TimeRemainingColumn, TransferSpeedColumn
from rich.table import Table
from rich.text import Text

from reliable_write import settings
from reliable_write.cli import speech
from reliable_write.uploads import Audience, CleanReport, Ended, FileResult, UploadReport
from reliable_write.uploads.report import INTERRUPTED, Silence, shown

LINE_SECONDS: Final = 5.0
"""Between lines where there is no terminal."""
ROWS_MAX: Final = 20
"""Of files with the same ending; all are in `--json`."""


def say_stopping() -> None:
    """To the first Ctrl-C."""
    speech.say("Stopping: what is under way ends. Ctrl-C again ends at once.")


@contextlib.contextmanager
def screen(*, silent: bool) -> Iterator[Audience]:
    """Who is told how far it is. Talk, so it goes to stderr."""
    console = speech.console(stderr=True)
    if silent:
        yield Silence()
    elif console.is_terminal:
        with Progress(
            BarColumn(bar_width=None),
            DownloadColumn(),
            TextColumn("{task.fields[files]}"),
            TransferSpeedColumn(),
            TimeRemainingColumn(),
            console=console,
            transient=True,
            expand=True,
        ) as progress:
            yield _Bar(progress)
    else:
        yield _Lines()


class _Count:
    """How many files, and bytes, of how many."""

    def __init__(self) -> None:
        self.files = self.ended_files = self.size = self.moved_size = 0

    @property
    def told(self) -> str:
        return f"{self.ended_files:,} of {speech.plural(self.files, 'file')}"


class _Bar:
    """For a terminal."""

    def __init__(self, progress: Progress) -> None:
        self._progress = progress
        self._count = _Count()
        self._task = progress.add_task("", total=None, files="")

    def begin(self, files: int, size: int) -> None:
        self._count.files, self._count.size = files, size
        self._progress.update(self._task, total=size, files=self._count.told)

    def moved(self, size: int) -> None:
        self._progress.advance(self._task, size)

    def ended(self, result: FileResult) -> None:
        self._count.ended_files += 1
        self._progress.update(self._task, files=self._count.told)
        if (line := _line_of(result)) is not None:
            self._progress.console.print(line)


class _Lines:
    """For a log."""

    def __init__(self) -> None:
        self._count = _Count()
        self._lock = threading.Lock()
        self._told_seconds = time.monotonic()

    def begin(self, files: int, size: int) -> None:
        self._count.files, self._count.size = files, size

    def moved(self, size: int) -> None:
        self._count.moved_size += size
        if time.monotonic() - self._told_seconds >= LINE_SECONDS:
            self._told_seconds = time.monotonic()
            speech.say(f"{self._count.told}, {decimal(self._count.moved_size)} of {decimal(self._count.size)}")

    def ended(self, result: FileResult) -> None:
        self._count.ended_files += 1
        if (line := _line_of(result)) is not None:
            speech.console(stderr=True).print(line, soft_wrap=True)


def _line_of(result: FileResult) -> Text | None:
    """For what somebody should see at once."""
    if result.ended not in (Ended.DIFFERENT, Ended.FAILED):
        return None
    return Text.assemble((result.ended.value, "yellow"), f"  {printable(result.name)}: {result.told}")


def printable(name: str) -> str:
    """A name on one line, whatever it is made of."""
    return settings.printable(shown(name))


# --- at the end ---------------------------------------------------------------------------------------------------


def show_report(report: UploadReport, cleaned: CleanReport | None, command: str, *, dry_run: bool) -> None:
    """What holds, and the command that goes on where something is left."""
    console = speech.console(width_max=speech.PROSE_WIDTH_MAX)
    for line in _headlines(report, dry_run=dry_run):
        console.print(line)
    _show(console, "Different content, left as it is", _rows(report.different_content))
    _show(console, "Failed", _rows(report.failed))
    _show(console, "Left out", [(printable(entry.name), entry.told) for entry in report.left_out])
    if cleaned is not None:
        console.print(f"{speech.plural(len(cleaned.aborted), 'multipart upload')} of killed runs aborted.")
        _show(console, "Multipart uploads left alone", [(printable(entry.key), entry.told) for entry in cleaned.kept])
    if report.stopped:
        why = "Interrupted" if report.stopped == INTERRUPTED else f"Stopped: {report.stopped}"
        left = f" {speech.plural(len(report.not_tried), 'file is', 'files are')} not tried." if report.not_tried else ""
        speech.say(f"{why}.{left}")
    if not report.complete:
        speech.say(_advice(report, dry_run=dry_run))
        speech.say_command(command)


def _headlines(report: UploadReport, *, dry_run: bool) -> Iterator[Text]:
    if dry_run:
        coming = report.of(Ended.TO_UPLOAD)
        sent = f"{speech.plural(len(coming), 'file')} to upload to {report.target}"
        yield Text(f"{sent}, {decimal(sum(result.size for result in coming))}.", style="bold")
    else:
        size = sum(result.size for result in report.uploaded)
        rate = f", {decimal(int(size / report.seconds))}/s" if report.seconds > 0 and size else ""
        sent = f"{speech.plural(len(report.uploaded), 'file')} uploaded to {report.target}"
        yield Text(f"{sent}: {decimal(size)} in {report.seconds:.1f} s{rate}.", style="bold")
    if report.already_there:
        yield Text(f"{speech.plural(len(report.already_there), 'file was', 'files were')} there already.")


def _advice(report: UploadReport, *, dry_run: bool) -> str:
    if dry_run:
        return "Nothing was changed. To do it:"
    if report.failed or report.not_tried:
        return "What is there is not sent again. To go on:"
    return "Give the files other names, or see docs/uploads.md about replacing an object. To look again:"


def _rows(results: Sequence[FileResult]) -> list[tuple[str, str]]:
    return [(printable(result.name), result.told) for result in results]


def _show(console: Console, title: str, rows: list[tuple[str, str]]) -> None:
    if not rows:
        return
    table = Table(box=None, show_header=False, pad_edge=False, padding=(0, 2, 0, 0))
    for name, told in rows[:ROWS_MAX]:
        table.add_row(Text(name, overflow="fold"), Text(told, style="dim"))
    console.print(Text(f"{title}: {len(rows):,}"))
    console.print(Padding(table, (0, 0, 0, 3)))
    if len(rows) > ROWS_MAX:
        console.print(Padding(Text(f"and {len(rows) - ROWS_MAX:,} more; --json lists all"), (0, 0, 0, 3)))
