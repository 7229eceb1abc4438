"""Garbled receipts, tombstones, heartbeats, deeds and notes: nobody's loop ends by them, and nobody acts on them."""

from __future__ import annotations

from typing import Any

import pytest
from hypothesis import example, given
from hypothesis import strategies as st

from reliable_write.clock import Deadline
from reliable_write.operations import key_hash
from reliable_write.tombstones import read_tombstone, tombstone_item
from reliable_write.values import WireItem
from tests.fuzz.damage import LONG_SECONDS, SHAPES, DamagedWorld, flipped
from tests.fuzz.tally import tally, tried
from tests.simulation.memory_world import TABLE, deleting

text = st.text(st.characters(codec="utf-8"), max_size=6)
wire: st.SearchStrategy[dict[str, Any]] = st.one_of(
    text.map(lambda content: {"S": content}),
    st.one_of(st.integers(), st.floats(allow_nan=False)).map(lambda number: {"N": str(number)}),
    st.sampled_from([{"N": "1E+120"}, {"S": "f" * 36}, {"S": "0" * 36}, {"S": "\x1b[31m\n"}]),
    st.sampled_from([{"NULL": True}, {"L": []}, {"M": {}}, {"B": b"x"}, {"SS": ["a"]}, {"BOOL": False}]),
    st.sampled_from([{"M": {"id": {"S": "kept"}}}, {"M": {"id": {"N": "1"}}}, {"M": {"no": {"S": "kept"}}}]),
)


def full_world() -> DamagedWorld:
    """One record of each kind beside an entry that is to be finished."""
    world = DamagedWorld()
    world.put("kept", value="later")
    world.delete("old")
    engine = world.engine
    deadline = Deadline.after(8, world.time)
    engine.heartbeats.beat("host:1:aa", "1.0", deadline)
    engine.audit_log.record("retry", operator="ann", reason="why", facts={"write_id": {"S": "w"}}, deadline=deadline)
    world.record(
        "R#key-1",
        "R",
        stamp={"S": world.stamp()},
        request={"S": "0" * 40},
        scope={"S": world.stamp()},
        operations={"N": "1"},
        at={"N": str(int(world.time.wall * 1000))},
        entry={"BOOL": False},
    )
    world.leave(SHAPES["a batch of puts"])
    return world


KINDS = {"R#": "receipts", "T#": "tombstones", "M": "heartbeats", "A": "deeds"}


def test_a_garbled_record_stops_nobody() -> None:
    """The entry beside it is finished, what was put after a delete stays, and the records are shown or left out."""
    with tally("garbled records", *KINDS.values()) as counts:
        world = full_world()
        whole = world.snapshot()
        names = {prefix: sorted(set(world.records(prefix)[0]) - {"pk", "sk"}) for prefix in KINDS}

        @tried(0.06)
        @example(("M", {"seen_at": {"S": "now"}}, False))
        @example(("A", {"at": {"N": "0.5"}}, False))
        @given(
            st.sampled_from(sorted(KINDS)).flatmap(
                lambda prefix: st.tuples(
                    st.just(prefix),
                    st.dictionaries(st.sampled_from(names[prefix]), wire, min_size=1, max_size=2),
                    st.booleans(),
                )
            )
        )
        def run(case: tuple[str, dict[str, Any], bool]) -> None:
            prefix, garbled, missing = case
            counts.update(["inputs", KINDS[prefix]])
            world.restore(whole)
            record = world.records(prefix)[0]
            damaged = {name: value for name, value in record.items() if not (missing and name in garbled)}
            world.replace(record, damaged if missing else {**damaged, **garbled})
            check_everybody(world)

        run()


def check_everybody(world: DamagedWorld) -> None:
    monitor = world.monitor()
    monitor.run_once()
    world.time.pass_seconds(30)
    monitor.run_once()
    world.time.pass_seconds(30)
    monitor.run_once()
    monitor.drain()
    assert not world.records("J#"), "the entry beside it was not finished"
    assert monitor.status().failures_total == 0
    auditor, scheduled = world.auditor(), world.auditor(scheduled=True)
    for _ in range(2):
        auditor.run_once()
        scheduled.run_once()
        world.time.pass_seconds(30)
    assert {"a", "b", "kept"} <= set(world.shown_items()), "something was removed"
    assert world.shown_items()["kept"]["value"] == {"S": "later"}
    deadline = Deadline.after(8, world.time)
    world.engine.heartbeats.all(deadline)
    world.engine.audit_log.deeds(deadline)
    world.engine.receipts.find("key-1", deadline)
    world.engine.recovery.status("key-1")


@pytest.mark.parametrize("prefix", ["T#", "R#"])
def test_what_cannot_be_read_is_never_collected(prefix: str) -> None:
    """However long it has been there."""
    world = full_world()
    record = world.records(prefix)[0]
    whole = world.snapshot()
    damages: list[WireItem] = [
        {**record, name: {"NULL": True}} for name in ("stamp", "table", "key", "request") if name in record
    ]
    damages += [{name: value for name, value in record.items() if name != "stamp"}]
    with tally("uncollectable records") as counts:
        for damaged in damages:
            world.restore(whole)
            world.process().recovery.resume_all()
            world.replace(record, damaged)
            auditor, scheduled = world.auditor(), world.auditor(scheduled=True)
            for _ in range(4):
                auditor.run_once()
                scheduled.run_once()
                world.time.pass_seconds(LONG_SECONDS)
            assert damaged in world.records(prefix)
            counts["inputs"] += 1
        world.restore(whole)  # and what can be read is, so that something was tried
        world.process().recovery.resume_all()
        auditor = world.auditor()
        for _ in range(4):
            auditor.run_once()
            world.time.pass_seconds(LONG_SECONDS)
        assert not world.records(prefix)


def test_a_tombstone_is_never_taken_for_another_keys() -> None:
    """Its name is the hash of its table and key: a turned bit there must not make an audit remove another item."""
    world = DamagedWorld()
    world.put("victim", value="older than the tombstone")
    world.delete("victil")
    (tombstone,) = world.records("T#")
    whole = world.snapshot()
    with tally("bits of tombstones", "left alone") as counts:
        turned = [{**tombstone, "key": {"M": {"id": key["id"]}}} for key in flipped(tombstone["key"]["M"], "id")]
        turned += [*flipped(tombstone, "table"), *flipped(tombstone, "pk")]
        for damaged in turned:
            world.restore(whole)
            world.replace(tombstone, damaged)
            before = world.shown_items()
            auditor = world.auditor()
            for _ in range(3):
                auditor.run_once()
                world.time.pass_seconds(60)
            assert world.shown_items() == before
            assert world.shown_items()["victim"]
            counts.update(["inputs", "left alone"])
            if damaged["pk"]["S"].startswith("T#"):
                assert read_tombstone(damaged) is None
    assert any(one.get("key") == {"M": {"id": {"S": "victim"}}} for one in turned)


def test_a_tombstone_of_two_key_attributes_is_known_in_whatever_order_they_come() -> None:
    delete = deleting("x")
    delete = type(delete)(TABLE, ("id", "at"), {"id": {"S": "x"}, "at": {"N": "1.50"}})
    item = tombstone_item(delete, DamagedWorld().stamp())
    backwards = {**item, "key": {"M": dict(reversed(item["key"]["M"].items()))}}
    assert item["pk"]["S"] == f"T#{key_hash(delete)}"
    assert read_tombstone(item)
    assert read_tombstone(backwards)


NOTES = st.one_of(text, st.from_regex(r"\A\d{1,16}/\d{0,16}/(looked)?\Z"), st.just("0/0/looked"))


def test_a_garbled_note_never_shortens_the_waits() -> None:
    """A tombstone fresh from its delete stays for both waits, unless two times in order are written on it: those are
    believed, for nothing else tells one audit what an earlier one saw.
    """
    world = DamagedWorld()
    world.delete("old")
    (tombstone,) = world.records("T#")
    whole = world.snapshot()
    now = int(world.time.wall * 1000)
    with tally("notes", "kept") as counts:

        @tried(0.02)
        @example(f"{now - 10**9}/0/looked")
        @example(f"{now}/{now}/looked")
        @given(st.one_of(NOTES, st.integers(0, now).map(lambda clear: f"{now}/{clear}/looked")))
        def run(note: str) -> None:
            world.restore(whole)
            world.replace(tombstone, {**tombstone, "note": {"S": note}})
            for _ in range(2):
                world.auditor(scheduled=True).run_once()
            counts["inputs"] += 1
            if not fits(note, now):
                counts["kept"] += 1
                assert world.records("T#"), note

        run()


def fits(note: str, now: int) -> bool:
    """Whether two times are there, in order, and past."""
    begun, _, rest = note.partition("/")
    clear = rest.partition("/")[0]
    return begun.isdecimal() and clear.isdecimal() and int(begun) <= int(clear) < now
