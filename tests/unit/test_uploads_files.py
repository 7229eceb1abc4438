"""What is read of a file, in parts of what size, and how files are put into pages."""

from __future__ import annotations

import hashlib
from pathlib import Path

import pytest

from reliable_write import limits
from reliable_write.limits import MB
from reliable_write.uploads.files import Choice, File, FileChanged, find, part_bytes_for, read_content, read_part
from reliable_write.uploads.run import PAGE_BYTES, PAGE_FILES, _paged


@pytest.mark.parametrize(
    ("size", "part_bytes"),
    [
        (0, 8 * MB),
        (8 * MB * limits.UPLOAD_PARTS_MAX, 8 * MB),
        (8 * MB * limits.UPLOAD_PARTS_MAX + 1, 9 * MB),
        (5 * 1024 * MB * limits.UPLOAD_PARTS_MAX, limits.UPLOAD_PART_BYTES_MAX),
    ],
)
def test_parts_are_as_large_as_it_takes_to_have_no_more_than_s3_takes(size: int, part_bytes: int) -> None:
    assert part_bytes_for(size, 8 * MB) == part_bytes
    assert size <= part_bytes * limits.UPLOAD_PARTS_MAX


@pytest.mark.parametrize("size", [0, 1, 9, 10, 11, 20, 25])
def test_the_digests_are_those_of_the_whole_and_of_each_part(tmp_path: Path, size: int) -> None:
    data = bytes(range(size))
    path = tmp_path / "file"
    path.write_bytes(data)
    file = File(path, "file", size)
    content = read_content(file, 10, lambda: False)
    assert content is not None
    assert (content.sha256, content.size) == (hashlib.sha256(data).hexdigest(), size)
    parts = [data[at : at + 10] for at in range(0, max(1, size), 10)]
    assert list(content.parts) == [hashlib.sha256(part).digest() for part in parts]
    numbers = range(1, len(parts) + 1)
    assert [content.part_size(number) for number in numbers] == [len(part) for part in parts]
    assert [read_part(file, content, number) for number in numbers] == parts
    assert content.whole is (size <= 10)


@pytest.mark.parametrize("size", [31, 35, 40, 45])
def test_a_file_that_grew_over_what_s3_takes_in_parts_is_told_before_any_is_sent(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, size: int
) -> None:
    monkeypatch.setattr(limits, "UPLOAD_PARTS_MAX", 3)
    path = tmp_path / "file"
    path.write_bytes(bytes(size))
    with pytest.raises(FileChanged, match="grew"):
        read_content(File(path, "file", 30), 10, lambda: False)
    path.write_bytes(bytes(30))
    content = read_content(File(path, "file", 30), 10, lambda: False)
    assert content is not None
    assert len(content.parts) == 3


def test_reading_can_be_stopped(tmp_path: Path) -> None:
    (tmp_path / "file").write_bytes(b"x")
    assert read_content(File(tmp_path / "file", "file", 1), 10, lambda: True) is None


def test_a_folder_that_cannot_be_read_inside_another_one_is_told(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """As another user; the one who runs the tests may be allowed everything."""
    (tmp_path / "closed").mkdir()
    (tmp_path / "open").write_bytes(b"")
    scandir = __import__("os").scandir

    def refuse(path: str) -> object:
        if str(path).endswith("closed"):
            raise PermissionError(13, "Permission denied")
        return scandir(path)

    monkeypatch.setattr("reliable_write.uploads.files.os.scandir", refuse)
    found = find(tmp_path, Choice())
    assert [file.name for file in found.files] == ["open"]
    assert [(entry.name, entry.told) for entry in found.left_out] == [("closed/", "cannot be read: Permission denied")]


def test_pages_are_bounded_by_files_and_by_bytes() -> None:
    small = [(File(Path("x"), f"{number}", 10), "k") for number in range(2 * PAGE_FILES + 1)]
    assert [len(page) for page in _paged(small)] == [PAGE_FILES, PAGE_FILES, 1]
    large = [(File(Path("x"), "large", PAGE_BYTES), "k")]
    assert [len(page) for page in _paged([*small[:3], *large, *large, *small[:2]])] == [4, 1, 2]
    assert list(_paged([])) == []
