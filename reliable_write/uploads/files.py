"""What is to be uploaded, and what is in it. A file is never trusted to stay as it was: what is sent is compared with
what was read first, byte for byte by its digest.
"""

from __future__ import annotations

import contextlib
import fnmatch
import hashlib
import io
import os
import stat
from collections.abc import Callable, Iterable, Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Final

from reliable_write import limits
from reliable_write.errors import UploadRejectedError

_READ_BYTES: Final = limits.MB

Source = str | os.PathLike[str] | Iterable[str | os.PathLike[str]]
"""A folder, a file, or files."""


class FileChanged(Exception):
    """The file is not what it was when it was read first; the message says how."""


@dataclass(frozen=True, slots=True)
class File:
    """A file, as it was found."""

    path: Path
    name: str
    """Below the folder, with slashes."""
    size: int
    """Bytes; for the progress, since it may have grown since."""


@dataclass(frozen=True, slots=True)
class LeftOut:
    """Something in a folder that is not uploaded."""

    name: str
    told: str
    """Why."""


@dataclass(frozen=True, slots=True)
class Found:
    """All there is, in the order of the names."""

    files: tuple[File, ...]
    left_out: tuple[LeftOut, ...] = ()


@dataclass(frozen=True, slots=True)
class Choice:
    """Which names are meant: those that match one of `include` (all where there is none) and none of `exclude`.

    Patterns are the shell's (`*.log`); `*` goes over slashes too.
    """

    include: tuple[str, ...] = ()
    exclude: tuple[str, ...] = ()

    def takes(self, name: str) -> bool:
        """Whether it is meant."""
        if self.include and not _matches(name, self.include):
            return False
        return not _matches(name, self.exclude)


def _matches(name: str, patterns: Sequence[str]) -> bool:
    return any(fnmatch.fnmatchcase(name, pattern) for pattern in patterns)


# --- finding ------------------------------------------------------------------------------------------------------


def find(source: Source, choice: Choice) -> Found:
    """The files of a folder, a single file, or files by their own names. Raises `UploadRejectedError`.

    In a folder a symbolic link is not followed, and what is no file (a socket, a pipe) is not opened: both are told. A
    link that is named by the caller is.
    """
    if source == "":  # to `Path` that is the working directory: a variable of a script that was not set
        raise UploadRejectedError("The source is empty. Give a folder, or files; the working directory is '.'.")
    if isinstance(source, str | os.PathLike):
        path = Path(source)
        with _told(path):
            is_folder = path.is_dir()
        if is_folder:
            return _in_folder(path, choice)
        source = [path]
    return _by_name([Path(path) for path in source], choice)


def _by_name(paths: Sequence[Path], choice: Choice) -> Found:
    files: dict[str, File] = {}
    for path in paths:
        with _told(path):
            file = _named(path)
        if file.name in files:
            raise UploadRejectedError(
                f"Two files have the name {path.name!r}, and would be one object: {os.fspath(files[path.name].path)!r} "
                f"and {os.fspath(path)!r}. Upload them under two prefixes, or their folder."
            )
        if choice.takes(file.name):
            files[file.name] = file
    return Found(tuple(files[name] for name in sorted(files)))


def _named(path: Path) -> File:
    if not path.is_file():
        raise UploadRejectedError(
            f"{os.fspath(path)!r} is {'a folder' if path.is_dir() else 'no file'}. Give one folder, or files."
        )
    return File(path, path.name, path.stat().st_size)


@contextlib.contextmanager
def _told(path: Path) -> Iterator[None]:
    """What may not be looked at, or has a name too long for any file, is refused by name."""
    try:
        yield
    except OSError as error:
        raise UploadRejectedError(f"{os.fspath(path)!r} cannot be read: {error.strerror}.") from error


def _in_folder(folder: Path, choice: Choice) -> Found:
    files: list[File] = []
    left_out: list[LeftOut] = []
    for entry, name in _walk(folder, "", left_out):
        if choice.takes(name):
            _sort_out(entry, name, files, left_out)
    return Found(
        tuple(sorted(files, key=lambda file: file.name)), tuple(sorted(left_out, key=lambda entry: entry.name))
    )


def _walk(folder: Path | str, above: str, left_out: list[LeftOut]) -> Iterator[tuple[os.DirEntry[str], str]]:
    """Everything below that is no folder. A folder that cannot be read, or that vanishes, is told."""
    try:
        with os.scandir(folder) as entries:
            listed = sorted(entries, key=lambda entry: entry.name)
    except OSError as error:
        if not above:
            raise UploadRejectedError(f"The folder {os.fspath(folder)!r} cannot be read: {error.strerror}.") from error
        left_out.append(LeftOut(above, f"cannot be read: {error.strerror}"))
        return
    for entry in listed:
        name = above + entry.name
        if entry.is_dir(follow_symlinks=False):
            yield from _walk(entry.path, f"{name}/", left_out)
        else:
            yield entry, name


def _sort_out(entry: os.DirEntry[str], name: str, files: list[File], left_out: list[LeftOut]) -> None:
    try:
        found = entry.stat(follow_symlinks=False)
    except OSError as error:
        left_out.append(LeftOut(name, f"cannot be looked at: {error.strerror}"))
        return
    if stat.S_ISLNK(found.st_mode):
        left_out.append(LeftOut(name, "a symbolic link, which is not followed"))
    elif not stat.S_ISREG(found.st_mode):
        left_out.append(LeftOut(name, "no regular file"))
    else:
        files.append(File(Path(entry.path), name, found.st_size))


# --- reading ------------------------------------------------------------------------------------------------------


@dataclass(frozen=True, slots=True)
class Content:
    """What was in a file when it was read: its digest, and those of its parts."""

    sha256: str
    """Hexadecimal."""
    size: int
    part_bytes: int
    parts: tuple[bytes, ...]
    """SHA-256 of each part, of which all but the last have `part_bytes`; one part for what goes in one request."""

    @property
    def whole(self) -> bool:
        """Whether it goes in one request."""
        return len(self.parts) == 1

    def part_size(self, number: int) -> int:
        """The bytes of a part, counted from 1."""
        return min(self.part_bytes, self.size - (number - 1) * self.part_bytes)


def part_bytes_for(size: int, wished: int) -> int:
    """The size of parts with which a file has no more of them than S3 takes: the wished one, or more, in whole MB."""
    least = -(-size // limits.UPLOAD_PARTS_MAX)
    return wished if least <= wished else -(-least // limits.MB) * limits.MB


def read_content(file: File, wished_part_bytes: int, stopped: Callable[[], bool]) -> Content | None:
    """Read it once, from begin to end; None where that was stopped. Raises `OSError`.

    Whatever it grows by meanwhile is read too; should it get more parts than S3 takes, that is a `FileChanged`.
    """
    part_bytes = part_bytes_for(file.size, wished_part_bytes)
    whole, part = hashlib.sha256(), hashlib.sha256()
    parts: list[bytes] = []
    size = 0
    with file.path.open("rb", buffering=0) as stream:
        while not stopped():
            room = part_bytes - size % part_bytes
            piece = stream.read(min(room, _READ_BYTES))
            if piece and len(parts) == limits.UPLOAD_PARTS_MAX:
                raise FileChanged("it grew while it was read")
            if not piece:
                if size % part_bytes or not parts:
                    parts.append(part.digest())
                return Content(whole.hexdigest(), size, part_bytes, tuple(parts))
            whole.update(piece)
            part.update(piece)
            size += len(piece)
            if size % part_bytes == 0:
                parts.append(part.digest())
                part = hashlib.sha256()
    return None


def read_part(file: File, content: Content, number: int) -> bytes:
    """The bytes of one part, counted from 1, if they are still what they were. Raises `FileChanged`, `OSError`."""
    size = content.part_size(number)
    with file.path.open("rb", buffering=0) as stream:
        stream.seek((number - 1) * content.part_bytes)
        data = _read_exactly(stream, size)
        if len(data) < size:
            raise FileChanged("it became shorter while it was read")
        last = number == len(content.parts)
        if last and stream.read(1):
            raise FileChanged("it grew while it was read")
    if hashlib.sha256(data).digest() != content.parts[number - 1]:
        raise FileChanged("it changed while it was read")
    return data


def _read_exactly(stream: io.FileIO, size: int) -> bytes:
    """So many bytes, or all there are: one read may give less (a network file system, a signal)."""
    pieces: list[bytes] = []
    while size and (piece := stream.read(size)):
        pieces.append(piece)
        size -= len(piece)
    return b"".join(pieces)
