"""`reliable-write upload`, once its command line is parsed: upload, tell, and give the exit code."""

from __future__ import annotations

import contextlib
import shlex
from collections.abc import Iterator
from dataclasses import dataclass
from typing import Any

from reliable_write import limits
from reliable_write.cli import render_upload as render
from reliable_write.cli import speech
from reliable_write.cli.bulk import stopped_by_ctrl_c
from reliable_write.cli.exits import ExitCode
from reliable_write.cli.listing import parse_span
from reliable_write.cli.options import At, Form
from reliable_write.settings import Settings
from reliable_write.uploads import CleanReport, Ended, UploadOnce, UploadReport
from reliable_write.uploads.files import Choice, Source, find
from reliable_write.uploads.report import INTERRUPTED, shown
from reliable_write.uploads.target import Target
from reliable_write.writer import ReliableWriter


@dataclass(frozen=True, slots=True)
class Wanted:
    """The command line, as typed."""

    sources: tuple[str, ...]
    target: str
    table: str
    init: bool
    parallel: int | None
    part_megabytes: int | None
    include: tuple[str, ...]
    exclude: tuple[str, ...]
    verify: bool
    clean: str | None
    dry_run: bool
    s3_endpoint_url: str | None

    @property
    def source(self) -> Source:
        """One may be a folder; several are files."""
        return self.sources[0] if len(self.sources) == 1 else self.sources

    def options(self) -> dict[str, Any]:
        """For `UploadOnce`, what was given."""
        given: dict[str, Any] = {"s3_endpoint_url": self.s3_endpoint_url}
        if self.parallel is not None:
            given["parallel"] = self.parallel
        if self.part_megabytes is not None:
            given["part_bytes"] = self.part_megabytes * limits.MB
        return given

    def command(self, at: At) -> str:
        """The same upload, to be copied: without what is done once."""
        words = [*(shlex.quote(shown(source)) for source in self.sources), shlex.quote(self.target)]
        options = {
            "--table": [] if self.table == "uploads" else [self.table],
            "--parallel": [] if self.parallel is None else [str(self.parallel)],
            "--part-size": [] if self.part_megabytes is None else [str(self.part_megabytes)],
            "--include": self.include,
            "--exclude": self.exclude,
            "--s3-endpoint-url": [] if self.s3_endpoint_url is None else [self.s3_endpoint_url],
        }
        words += [f"{name} {shlex.quote(value)}" for name, values in options.items() for value in values]
        return at.told("reliable-write upload " + " ".join(words))


def upload(at: At, form: Form, wanted: Wanted) -> ExitCode:
    """All of it."""
    older_than = None if wanted.clean is None else parse_span(wanted.clean)
    with _opened(at, wanted) as uploads:
        if wanted.init:
            Target.parse(wanted.target)
            find(wanted.source, Choice())  # before anything is made: these may be refused
            uploads.init()
        report = _run(uploads, form, wanted)
        cleaned = None
        if older_than is not None and not report.stopped and not wanted.dry_run:
            cleaned = uploads.clean(wanted.target, older_than_seconds=older_than)
    if form.machine:
        speech.print_json(facts_of(report, cleaned, dry_run=wanted.dry_run))
    else:
        render.show_report(report, cleaned, wanted.command(at), dry_run=wanted.dry_run)
    return exit_code_of(report)


@contextlib.contextmanager
def _opened(at: At, wanted: Wanted) -> Iterator[UploadOnce]:
    chosen: dict[str, object] = {name: value for name, value in at._asdict().items() if value is not None}
    with (
        ReliableWriter(Settings.from_environment(None, **chosen)) as writer,
        UploadOnce(writer, wanted.table, **wanted.options()) as uploads,
    ):
        yield uploads


def _run(uploads: UploadOnce, form: Form, wanted: Wanted) -> UploadReport:
    with render.screen(silent=form.machine) as audience, stopped_by_ctrl_c(render.say_stopping) as stop:
        return uploads.upload(
            wanted.source,
            wanted.target,
            include=wanted.include,
            exclude=wanted.exclude,
            dry_run=wanted.dry_run,
            verify=wanted.verify,
            audience=audience,
            stop=stop,
        )


def facts_of(report: UploadReport, cleaned: CleanReport | None, *, dry_run: bool) -> dict[str, Any]:
    """For `--json`."""
    aborted = None
    if cleaned is not None:
        aborted = {
            "aborted": list(cleaned.aborted),
            "kept": [{"key": entry.key, "told": entry.told} for entry in cleaned.kept],
        }
    return {**report.facts(), "dry_run": dry_run, "cleaned": aborted}


def exit_code_of(report: UploadReport) -> ExitCode:
    """DONE only if all is there; what may be mended by running it again comes before what cannot."""
    if report.stopped not in ("", INTERRUPTED):
        return ExitCode.SERVICE
    if report.stopped or report.failed or report.not_tried:
        return ExitCode.PARTLY
    return ExitCode.DIFFERENT if report.of(Ended.DIFFERENT) else ExitCode.DONE
