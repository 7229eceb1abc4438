"""Damaged journal entries: left exactly as they are by everybody, or applied exactly as they were meant.

The checksum covers the operations, and the stamp and the write id they belong to. What monitors and operators write on
an entry later (state, epoch, owner, attempts, next_at, last_error, committed_at) lies outside of it: a turned bit there
may be seen, or may change when the write is finished, but never what it does.
"""

from __future__ import annotations

import random
from collections.abc import Callable, Iterator

import pytest

from reliable_write.entry import Entry
from reliable_write.recovery import Resumed
from reliable_write.values import WireItem
from tests.fuzz.damage import LONG_SECONDS, SHAPES, DamagedWorld, flipped, renamed
from tests.fuzz.tally import share, tally
from tests.simulation.memory_world import SYSTEM

SMALL = [name for name in SHAPES if name != "chunks"]
LATER = ("owner", "attempts", "next_at", "last_error", "skipped")


class Case:
    """One entry in a world, and what its tables look like when it is applied."""

    def __init__(self, shape: str, *, skip: str | None = None) -> None:
        self.world = DamagedWorld()
        self.entry = self.world.leave(SHAPES[shape])
        journal, deadline = self.world.engine.journal, self.world.deadline()
        if skip is not None:  # tried once, and a person gave a part of it up
            claimed = journal.claim(self.entry, "somebody:7", deadline)
            journal.postpone(claimed, "throttled", int(self.world.time.wall * 1000) + 5000, deadline)
            journal.skip(claimed, [skip], deadline)
        self.whole = self.world.snapshot()
        self.item = dict(self.world.records("J#")[0])
        self.before = self.whole_items()
        self.world.time.pass_seconds(60)
        (report,) = self.world.process().recovery.resume_all()
        assert report.resumed is Resumed.FINISHED
        self.meant = self.whole_items()
        assert self.meant != self.before

    def whole_items(self) -> dict[str, WireItem]:
        return dict(self.world.shown_items())

    def with_damage(self, damaged: WireItem) -> dict[str, WireItem]:
        self.world.restore(self.whole)
        self.world.replace(self.item, damaged)
        return dict(self.world.stored())

    def outcome(self, before: dict[str, WireItem]) -> str:
        """Left, or applied as meant; anything else is what must not be."""
        now = self.whole_items()
        if now == self.before and self.world.stored() == before:
            return "left alone"
        assert now == self.meant, "something else than the write was done"
        assert not self.world.records("J#"), "applied, and still there"
        return "applied as meant"

    def everybody_looks(self) -> None:
        """Recovery, monitor and audit, as if nobody else were there; the collector long after every wait."""
        self.world.process().recovery.resume_all()
        self.world.look(self.entry.write_id)


def sweep(case: Case) -> None:
    monitor = case.world.monitor()
    for _ in range(3):
        monitor.run_once()
        case.world.time.pass_seconds(30)
    assert monitor.status().failures_total == 0
    monitor.drain()


def audit(case: Case) -> None:
    auditor = case.world.auditor()
    for _ in range(4):
        auditor.run_once()
        case.world.time.pass_seconds(LONG_SECONDS)


def damages(item: WireItem, *names: str) -> Iterator[tuple[str, WireItem]]:
    for name in names:
        yield from ((name, damaged) for damaged in flipped(item, name))


@pytest.mark.parametrize("shape", SMALL)
def test_every_turned_bit_of_a_payload_is_seen_by_everybody(shape: str) -> None:
    """By recovery and by who shows the write; by monitor and audit for some of them."""
    case = Case(shape)
    every = 97 if share(1) < 50_000 else 7
    with tally("bits of payloads", "left alone") as counts:
        for number, damaged in enumerate(flipped(case.item, "payload")):
            before = case.with_damage(damaged)
            (report,) = case.world.process().recovery.resume_all()
            assert report.resumed is Resumed.UNREADABLE
            assert "checksum" in (case.world.look(case.entry.write_id) or "")
            if number % every == 0:
                sweep(case)
                audit(case)
                counts["swept and audited"] += 1
            outcome = case.outcome(before)
            assert outcome == "left alone"
            counts["inputs"] += 1
            counts[outcome] += 1


@pytest.mark.parametrize("shape", ["a batch of puts", "all kinds"])
def test_every_truncation_and_extension_is_seen(shape: str) -> None:
    case = Case(shape)
    payload = case.item["payload"]["B"]
    changed = [payload[:length] for length in range(len(payload))]
    changed += [payload + bytes([byte]) for byte in range(256)] + [b"\x00" + payload, payload * 2, payload[::-1]]
    with tally("lengths of payloads", "left alone") as counts:
        for other in changed:
            before = case.with_damage({**case.item, "payload": {"B": other}})
            case.everybody_looks()
            assert case.outcome(before) == "left alone"
            counts.update(["inputs", "left alone"])


@pytest.mark.parametrize("shape", ["a put", "all kinds"])
def test_a_turned_bit_of_its_head_changes_when_but_never_what(shape: str) -> None:
    case = Case(shape)
    with tally("bits of heads", "left alone", "applied as meant") as counts:
        for name, damaged in damages(case.item, *(name for name in case.item if name != "payload")):
            before = case.with_damage(damaged)
            case.everybody_looks()
            outcome = case.outcome(before)
            counts["inputs"] += 1
            counts[outcome] += 1
            if name in ("sk", "write_id", "format", "state"):
                assert outcome == "left alone", name


def test_a_turned_bit_of_what_was_noted_on_it_later_changes_nothing_of_what_it_does() -> None:
    """`skipped` is the exception, told below."""
    case = Case("all kinds", skip="operations[3].items[0]")
    assert set(LATER) <= set(case.item)
    with tally("bits of notes", "left alone", "applied as meant") as counts:
        for _, damaged in damages(case.item, "owner", "attempts", "next_at", "last_error", "epoch", "committed_at"):
            before = case.with_damage(damaged)
            case.everybody_looks()
            counts.update(["inputs", case.outcome(before)])


def test_a_skip_of_what_the_write_does_not_hold_is_seen() -> None:
    """Else the operation that a person gave up would be applied after all, and nobody would know.

    Bits outside of any checksum can still turn one place into another that exists: those few are counted here.
    """
    case = Case("all kinds", skip="operations[3].items[0]")
    others = {"operations[0]", "operations[1].items[0]", "operations[1].items[1]", "operations[2]"}
    with tally("bits of skips", "left alone") as counts:
        for damaged in flipped(case.item, "skipped"):
            if set(damaged["skipped"]["SS"]) <= others:
                counts["another place"] += 1
                continue
            before = case.with_damage(damaged)
            case.everybody_looks()
            assert case.outcome(before) == "left alone"
            counts.update(["inputs", "left alone"])
    assert counts["another place"] <= 2


def test_a_turned_bit_of_an_attributes_name_changes_nothing_of_what_it_does() -> None:
    case = Case("all kinds")
    with tally("bits of names", "left alone") as counts:
        for name in set(case.item) - {"pk", "sk"}:
            for damaged in renamed(case.item, name):
                before = case.with_damage(damaged)
                case.everybody_looks()
                counts.update(["inputs", case.outcome(before)])


def test_an_attribute_of_another_type_changes_nothing_of_what_it_does() -> None:
    case = Case("all kinds")
    kinds = [{"S": "x"}, {"S": ""}, {"N": "7"}, {"N": "1E+120"}, {"N": "-1"}, {"N": "0.5"}, {"B": b""}, {"NULL": True}]
    kinds += [{"BOOL": True}, {"L": []}, {"M": {}}, {"SS": ["x"]}, {"NS": ["1"]}, {"BS": [b"x"]}]
    with tally("types of attributes", "left alone", "applied as meant") as counts:
        for name in [*set(case.item) - {"pk", "sk"}, "chunks", "owner", "attempts", "next_at", "last_error"]:
            for kind in kinds:
                before = case.with_damage({**case.item, name: kind})  # type: ignore[dict-item]  # of any type
                case.everybody_looks()
                counts.update(["inputs", case.outcome(before)])


# --- chunks -------------------------------------------------------------------------------------------------------


def chunk_damages(case: Case, others: list[WireItem], chance: random.Random) -> Iterator[Callable[[], None]]:
    """Ways to spoil the chunks of an entry; each is done to fresh tables."""
    items = case.world.tables.tables[SYSTEM]
    chunks = [dict(item) for item in case.world.records("C#") if item["pk"]["S"].endswith(case.entry.stamp)]
    assert len(chunks) >= 2

    def put(chunk: WireItem, part: bytes) -> None:
        items.items[items.place(chunk)] = {**chunk, "part": {"B": part}}

    for chunk, other in zip(chunks, [*chunks[1:], chunks[0]], strict=True):
        part = chunk["part"]["B"]
        yield lambda chunk=chunk: items.items.pop(items.place(chunk))  # type: ignore[misc]
        yield lambda chunk=chunk, other=other: put(chunk, other["part"]["B"])  # type: ignore[misc]
        yield lambda chunk=chunk, part=part: put(chunk, part[:-1])  # type: ignore[misc]
        yield lambda chunk=chunk, part=part: put(chunk, part + b"\0")  # type: ignore[misc]
        yield lambda chunk=chunk: put(chunk, b"")  # type: ignore[misc]
        yield lambda chunk=chunk: put(chunk, others[0]["part"]["B"])  # type: ignore[misc]
        yield lambda chunk=chunk: items.items.update({items.place(chunk): {**chunk, "part": {"S": "x"}}})  # type: ignore[misc]
        for _ in range(share(0.004)):
            damaged = bytearray(part)
            damaged[chance.randrange(len(part))] ^= 1 << chance.randrange(8)
            yield lambda chunk=chunk, damaged=bytes(damaged): put(chunk, damaged)  # type: ignore[misc]

    def swap() -> None:
        put(chunks[0], chunks[1]["part"]["B"])
        put(chunks[1], chunks[0]["part"]["B"])

    yield swap
    head = case.item
    for count in ("0", "1", "-1", str(len(chunks) - 1), str(len(chunks) + 1), "1000000000", "9" * 38):
        yield lambda count=count: case.world.replace(head, {**head, "chunks": {"N": count}})  # type: ignore[misc]


def test_spoiled_chunks_are_seen_by_everybody() -> None:
    """Swapped, missing, of another entry, cut, longer, another type, turned bits, another count of them."""
    other = Case("chunks")
    case = Case("chunks")
    others = [item for table in [other.whole[SYSTEM]] for item in table.values() if item["pk"]["S"].startswith("C#")]
    with tally("chunks", "left alone") as counts:
        case.world.restore(case.whole)
        for number, spoil in enumerate(chunk_damages(case, others, random.Random(7))):
            case.world.restore(case.whole)
            spoil()
            before = dict(case.world.stored())
            (report,) = case.world.process().recovery.resume_all()
            assert report.resumed is Resumed.UNREADABLE
            assert case.world.look(case.entry.write_id)
            if number % 10 == 0:
                sweep(case)
                audit(case)
            assert case.outcome(before) == "left alone"
            counts.update(["inputs", "left alone"])


def test_a_payload_of_another_entry_is_seen() -> None:
    case = Case("a put")
    stranger: Entry = DamagedWorld().leave(SHAPES["all kinds"])
    before = case.with_damage({**case.item, "payload": {"B": stranger.payload}})
    case.everybody_looks()
    sweep(case)
    audit(case)
    assert case.outcome(before) == "left alone"


def test_an_undamaged_entry_beside_a_damaged_one_is_finished() -> None:
    """What cannot be read stops nothing else, in the same shard or in another."""
    case = Case("a put")
    damaged = next(flipped(case.item, "payload"))
    case.with_damage(damaged)
    for _ in range(6):
        case.world.leave(SHAPES["a batch of puts"])
    sweep(case)
    assert case.world.records("J#") == [damaged]
    assert "b" in case.whole_items()
