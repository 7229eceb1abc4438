"""What became of each file. Names and reasons, never what is in a file."""

from __future__ import annotations

import enum
from collections.abc import Iterable
from dataclasses import dataclass
from typing import Any, Protocol

from reliable_write.errors import UploadIncompleteError
from reliable_write.uploads.files import LeftOut

INTERRUPTED = "interrupted"


class Ended(enum.StrEnum):
    """How it ended for one file."""

    UPLOADED = "uploaded"
    """This run put it there."""
    ALREADY_THERE = "already there"
    """It was there with the same content: from an earlier run, another process, or somebody else."""
    DIFFERENT = "different content"
    """There is an object with this key and other content. It was left as it is."""
    FAILED = "failed"
    """It is not known to be there; running the same again may help, and sends nothing twice."""
    TO_UPLOAD = "to upload"
    """Of a dry run: the ledger does not know it."""


@dataclass(frozen=True, slots=True)
class FileResult:
    """One file and what became of it."""

    name: str
    ended: Ended
    size: int
    told: str = ""
    """Why, where that needs to be told."""


@dataclass(frozen=True, slots=True)
class UploadReport:
    """What an upload did. Each file is in one of its lists, in the order of the names."""

    target: str
    results: tuple[FileResult, ...]
    left_out: tuple[LeftOut, ...]
    """Links and other things in the folder that are not uploaded."""
    not_tried: tuple[str, ...]
    """Files that the run did not come to before it was stopped."""
    stopped: str = ""
    """Why it ended before its end: `INTERRUPTED`, or what S3 or DynamoDB said."""
    seconds: float = 0.0

    def of(self, ended: Ended) -> tuple[FileResult, ...]:
        """The files for which it ended like this."""
        return tuple(result for result in self.results if result.ended is ended)

    @property
    def uploaded(self) -> tuple[FileResult, ...]:
        """Put there by this run."""
        return self.of(Ended.UPLOADED)

    @property
    def already_there(self) -> tuple[FileResult, ...]:
        """There before, with the same content."""
        return self.of(Ended.ALREADY_THERE)

    @property
    def different_content(self) -> tuple[FileResult, ...]:
        """There with other content, and left alone."""
        return self.of(Ended.DIFFERENT)

    @property
    def failed(self) -> tuple[FileResult, ...]:
        """Not known to be there."""
        return self.of(Ended.FAILED)

    @property
    def complete(self) -> bool:
        """Whether all files are in the bucket with their content."""
        settled = len(self.uploaded) + len(self.already_there)
        return settled == len(self.results) and not self.not_tried and not self.stopped

    def raise_if_incomplete(self) -> None:
        """Raise `UploadIncompleteError` unless all files are there."""
        if self.complete:
            return
        counts = ", ".join(
            f"{count} {what}"
            for count, what in (
                (len(self.different_content), "with different content"),
                (len(self.failed), "failed"),
                (len(self.of(Ended.TO_UPLOAD)), "to upload"),
                (len(self.not_tried), "not tried"),
            )
            if count
        )
        because = f" It was stopped: {self.stopped}." if self.stopped else ""
        raise UploadIncompleteError(
            f"Not all files are in {self.target}: {counts or 'it is not known of all'}.{because} Upload them again: "
            "what is there is not sent again.",
            report=self,
            retryable=not self.different_content,
        )

    def facts(self) -> dict[str, Any]:
        """For machines."""
        return {
            "target": self.target,
            "complete": self.complete,
            "stopped": self.stopped or None,
            "seconds": round(self.seconds, 3),
            "uploaded_bytes": sum(result.size for result in self.uploaded),
            "uploaded": _names(self.uploaded),
            "already_there": _names(self.already_there),
            "to_upload": _names(self.of(Ended.TO_UPLOAD)),
            "different_content": _told(self.different_content),
            "failed": _told(self.failed),
            "left_out": [{"name": shown(entry.name), "told": entry.told} for entry in self.left_out],
            "not_tried": [shown(name) for name in self.not_tried],
        }


def shown(name: str) -> str:
    r"""A file's name as text that can be printed anywhere: what is not UTF-8 in it as `\xff`."""
    return name.encode("utf-8", "surrogateescape").decode("utf-8", "backslashreplace")


def _names(results: Iterable[FileResult]) -> list[str]:
    return [shown(result.name) for result in results]


def _told(results: Iterable[FileResult]) -> list[dict[str, str]]:
    return [{"name": shown(result.name), "told": result.told} for result in results]


class Audience(Protocol):
    """Is told how far an upload is. Called from several threads, one at a time."""

    def begin(self, files: int, size: int) -> None:
        """It begins, with so many files of so many bytes."""
        ...

    def moved(self, size: int) -> None:
        """So many more bytes of these are settled: sent, or found not to be sent."""
        ...

    def ended(self, result: FileResult) -> None:
        """One file has ended; its bytes were told by `moved`."""
        ...


class Silence:
    """Nobody wants to know."""

    def begin(self, files: int, size: int) -> None:
        """See `Audience.begin`."""

    def moved(self, size: int) -> None:
        """See `Audience.moved`."""

    def ended(self, result: FileResult) -> None:
        """See `Audience.ended`."""
