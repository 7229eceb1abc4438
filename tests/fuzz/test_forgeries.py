"""Forged records: by somebody who may write to the system table, or to a destination table.

Who may write to the system table may do what its monitors may; what is shown here is that a forgery gets no further
than that: no other place, no memory without end, no harm to other keys, nothing done to a terminal.
"""

from __future__ import annotations

import hashlib
import io
import json
import logging
import subprocess
import sys
from collections.abc import Iterator
from typing import Any

import pytest
import structlog
import zstandard

from monitor.logs import configure_logs
from reliable_write import limits
from reliable_write.entry import FORMAT, Entry, shard_of
from reliable_write.errors import ForeignStampError
from reliable_write.recovery import Resumed, ResumeReport
from tests.fuzz.damage import DamagedWorld
from tests.simulation.memory_world import SYSTEM, TABLE

LONG = "f" * 36
"""The greatest stamp there is."""


def forge(world: DamagedWorld, text: str | bytes, **more: Any) -> Entry:
    """An entry whose checksum is right, whatever is in it."""
    stamp = world.stamp()
    body = zstandard.ZstdCompressor().compress(text if isinstance(text, bytes) else text.encode())
    digest = hashlib.blake2b(f"{FORMAT}\0{stamp}\0{stamp}\0".encode(), digest_size=16)
    digest.update(body)
    milliseconds = int(world.time.wall * 1000)
    entry = Entry(shard_of(stamp, 2), stamp, stamp, FORMAT, milliseconds, digest.digest() + body, **more)
    world.engine.journal.commit(entry, world.deadline())
    return entry


def rows(table: str, *items: dict[str, Any], keys: tuple[str, ...] = ("id",), verb: str = "put_item") -> str:
    return json.dumps({"tables": [[table, list(keys)]], "operations": [[verb, 0, [item]] for item in items]})


def resumed(world: DamagedWorld) -> ResumeReport:
    (report,) = world.process().recovery.resume_all()
    return report


# --- in the journal -----------------------------------------------------------------------------------------------

X = {"id": {"S": "x"}}


@pytest.mark.parametrize(
    "table",
    [
        "eu:people",
        "http://evil.example/people",
        "file:/etc/passwd",
        "../people",
        "people/../other",
        "no-such",
        "",
        "\x00",
    ],
)
def test_a_forged_place_leads_nowhere(table: str) -> None:
    """An entry holds a name; where it leads is only in the settings of who applies it."""
    world = DamagedWorld()
    before = world.snapshot()[TABLE]
    forge(world, rows(table, X))
    report = resumed(world)
    assert report.resumed is not Resumed.FINISHED
    assert world.shown_items() == before
    assert len(world.records("J#")) == 1, "it is kept for a person to look at"


def test_a_forged_alias_is_told_by_name_and_leads_nowhere() -> None:
    """By the router itself, which knows the destinations of this process and no others."""
    world = DamagedWorld()
    before = world.snapshot()[TABLE]
    forge(world, rows("evil:people", X))
    (report,) = world.writer().recovery.resume_all()
    assert report.resumed is not Resumed.FINISHED
    assert world.shown_items() == before
    (entry,) = world.records("J#")
    assert "evil" in entry["last_error"]["S"]


@pytest.mark.parametrize("verb", ["put_item", "delete_item"])
def test_an_operation_on_the_system_table_itself_is_never_applied(verb: str) -> None:
    """No scope records one: it would overwrite other entries, tombstones, the config record."""
    world = DamagedWorld()
    key = {"pk": {"S": "CONFIG"}, "sk": {"S": "CONFIG"}}
    config = world.records("CONFIG")
    forge(world, rows(SYSTEM, key, keys=("pk", "sk"), verb=verb))
    before = dict(world.stored())
    report = resumed(world)
    assert report.resumed is Resumed.UNREADABLE
    assert "system table" in report.reason
    assert world.records("CONFIG") == config
    assert world.stored() == before


def unreadable() -> Iterator[tuple[str, bytes]]:
    one = json.dumps(X)
    yield "many operations", rows(TABLE, *[X] * 50_000).encode()
    yield "many tables", json.dumps({"tables": [["t", ["id"]]] * 50_000, "operations": []}).encode()
    yield (
        "many items in one",
        f'{{"tables":[["t",["id"]]],"operations":[["put_items",0,[{",".join([one] * 50_000)}]]]}}'.encode(),
    )
    yield (
        "deep",
        f'{{"tables":[["t",["id"]]],"operations":[["put_item",0,[{{"id":{{"S":"x"}},"v":{"[" * 10**6}'.encode(),
    )
    yield "a long number", rows(TABLE, {"id": {"N": 7}}).replace("7", "7" * 10_000).encode()


UNREADABLE = dict(unreadable())


@pytest.mark.parametrize("text", UNREADABLE.values(), ids=UNREADABLE)
def test_a_forged_payload_of_absurd_size_is_unreadable(text: bytes) -> None:
    world = DamagedWorld()
    forge(world, text)
    before = dict(world.stored())
    assert resumed(world).resumed is Resumed.UNREADABLE
    assert world.stored() == before


BOMB = """
import hashlib, resource, sys
import zstandard
from reliable_write.entry import FORMAT, Entry, UnreadableEntry, decode_operations

kind, megabytes = sys.argv[1], int(sys.argv[2])
compressor = zstandard.ZstdCompressor(level=3).compressobj(size=megabytes << 20 if kind == "honest" else -1)
parts = [compressor.compress(b" " * (1 << 20)) for _ in range(megabytes)]
body = b"".join([*parts, compressor.flush()])
if kind == "lying":
    honest = zstandard.ZstdCompressor().compress(b"x" * 100_000)
    header = honest[:5] + (10).to_bytes(4, "little")
    body = header + body[zstandard.frame_header_size(body):]
stamp = "0" * 36
digest = hashlib.blake2b(f"{FORMAT}\\0{stamp}\\0{stamp}\\0".encode(), digest_size=16)
digest.update(body)
payload = digest.digest() + body
assert len(payload) < 400_000, len(payload)
before = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss
try:
    decode_operations(Entry(0, stamp, stamp, FORMAT, 0, None), payload)
except UnreadableEntry as error:
    print("unreadable:", error.reason)
grown = (resource.getrusage(resource.RUSAGE_SELF).ru_maxrss - before) >> 10
print("grown", grown)
"""


@pytest.mark.parametrize("kind", ["honest", "silent", "lying"])
def test_a_zip_bomb_takes_no_memory(kind: str) -> None:
    """A gigabyte in an item, whether its frame says so, says nothing, or says ten bytes. In a process of its own,
    whose greatest size tells what was taken.
    """
    command = [sys.executable, "-c", BOMB, kind, "1024"]
    done = subprocess.run(command, capture_output=True, text=True, check=False, timeout=120)
    assert done.returncode == 0, done.stderr
    told, grown = done.stdout.splitlines()
    assert told.startswith("unreadable:")
    assert int(grown.split()[1]) <= 2 * limits.ENTRY_BYTES_DECODED_MAX >> 20


def test_an_entry_with_two_operations_on_one_key_ends_with_one_of_them() -> None:
    """No scope records it; both have one stamp, so whichever is first stays, and the entry is finished."""
    world = DamagedWorld()
    forge(world, rows(TABLE, {**X, "v": {"S": "1"}}, {**X, "v": {"S": "2"}}))
    assert resumed(world).resumed is Resumed.FINISHED
    assert world.shown_items()["x"]["v"] in ({"S": "1"}, {"S": "2"})


def test_the_last_of_two_same_names_in_a_payload_counts() -> None:
    world = DamagedWorld()
    forge(
        world,
        f'{{"tables":[["none",["id"]]],"tables":[["{TABLE}",["id"]]],"operations":[["put_item",0,[{{"id":{{"S":"x"}}}}]]]}}',
    )
    assert resumed(world).resumed is Resumed.FINISHED
    assert "x" in world.shown_items()


# --- in a destination table ---------------------------------------------------------------------------------------

FORGED: dict[str, dict[str, Any]] = {
    "a number": {"N": "1"},
    "null": {"NULL": True},
    "a list": {"L": []},
    "bytes": {"B": b"f" * 36},
    "a set": {"SS": [LONG]},
    "empty": {"S": ""},
    "upper case": {"S": "F" * 36},
    "the greatest": {"S": LONG},
    "two days ahead": {"S": f"{((1_700_000_000 + 2 * 86_400) * 1000):012x}" + "0" * 24},
}


@pytest.mark.parametrize("name", ["_rw", "_rwu"])
@pytest.mark.parametrize("kind", FORGED)
def test_a_forged_stamp_is_told_and_moves_nobody(kind: str, name: str) -> None:
    """Found at the witness: nothing is written, our clock stays, and other keys are as writable as before."""
    world = DamagedWorld()
    world.plant("x", value="theirs")
    world.shown_items()["x"][name] = FORGED[kind]
    theirs = dict(world.shown_items()["x"])
    with pytest.raises(ForeignStampError) as caught:
        world.put("x", value="ours")
    assert "theirs" not in str(caught.value)
    assert world.shown_items()["x"] == theirs
    assert not world.records("J#")
    receipt = world.put("y", value="ours")
    assert receipt.stamp < f"{int((world.time.wall + 3600) * 1000):012x}" + "0" * 24
    assert world.shown_items()["y"]["value"] == {"S": "ours"}


@pytest.mark.parametrize("name", ["_rw", "_rwu"])
@pytest.mark.parametrize("kind", FORGED)
def test_a_stamp_forged_after_the_commit_point_is_quarantined_and_the_rest_is_applied(kind: str, name: str) -> None:
    world = DamagedWorld()
    forge(world, rows(TABLE, {"id": {"S": "x"}}, {"id": {"S": "y"}}))
    world.plant("x", value="theirs")
    world.shown_items()["x"][name] = FORGED[kind]
    theirs = dict(world.shown_items()["x"])
    report = resumed(world)
    if kind == "empty":  # lower than any stamp: overwritten, as what is older is
        assert report.resumed is Resumed.FINISHED
        return
    assert report.resumed is Resumed.QUARANTINED
    assert world.shown_items()["x"] == theirs
    assert "y" in world.shown_items()
    (entry,) = world.records("J#")
    assert entry["state"] == {"S": "quarantined"}


# --- in a terminal ------------------------------------------------------------------------------------------------

RED = "\x1b[31mred"
EVIL = "\x1b[2J\x1b]0;owned\x07\r\nlevel=error event=forged \u202e\x9b31m\x00"


@pytest.fixture
def quiet_logs() -> Iterator[None]:
    root = logging.getLogger()
    kept = (root.handlers, root.level)
    yield
    root.handlers, root.level = kept
    structlog.reset_defaults()


@pytest.mark.parametrize("log_format", ["json", "console"])
@pytest.mark.usefixtures("quiet_logs")
def test_no_name_or_reason_gets_into_a_log_as_control_characters(log_format: Any) -> None:
    stream = io.StringIO()
    configure_logs(log_format, "debug", stream)
    structlog.get_logger("reliable_write").warning(
        "shard_not_read", write_id=EVIL, reason=EVIL, table=EVIL, where=[EVIL], shard=RED
    )
    logging.getLogger("anything").warning("about %s", EVIL)
    lines = stream.getvalue().splitlines()
    assert len(lines) == 2, "a value began a line of its own"
    assert all(line.isprintable() for line in lines), lines
