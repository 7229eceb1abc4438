"""Two clients of the record store with copies of their own, stale ones too, against a dictionary of versions.

A checked write takes effect exactly where its version is that of the table, and says so to the local copy; a refused
one changes nothing anywhere, and tells both versions.
"""

from __future__ import annotations

from collections import Counter
from dataclasses import dataclass
from typing import Annotated, Any

import pytest
from hypothesis import strategies as st
from hypothesis.stateful import RuleBasedStateMachine, invariant, rule, run_state_machine_as_test

from reliable_write import HashKey, Record, RecordStore, StaleRecordError, Version, VersionMode
from tests.fuzz.tally import tally, tried
from tests.simulation.memory_world import MemoryWorld

CHECKED, COUNTED = "checked", "counted"
keys = st.sampled_from("abc")
clients = st.integers(0, 1)


class Checked(Record, table=CHECKED):
    id: Annotated[str, HashKey()]
    value: int = 0
    version: Annotated[int, Version()] = 0


class Counted(Record, table=COUNTED):
    id: Annotated[str, HashKey()]
    value: int = 0
    version: Annotated[int, Version(VersionMode.AUTO_INCREMENT)] = 0


@dataclass(frozen=True)
class Row:
    version: int
    value: int


class RecordMachine(RuleBasedStateMachine):
    counts: Counter[str] = Counter()

    def __init__(self) -> None:
        super().__init__()
        self.world = MemoryWorld(shards=2, page_items=50)
        for table in (CHECKED, COUNTED):
            self.world.tables.create(table, "id")
        self.stores = [RecordStore(self.world.writer()) for _ in range(2)]
        self.copies: list[dict[str, Checked]] = [{}, {}]
        self.counted: list[dict[str, Counted]] = [{}, {}]
        self.checked_rows: dict[str, Row] = {}
        self.counted_rows: dict[str, Row] = {}

    def count(self, what: str) -> None:
        self.counts.update(["inputs", what])
        self.world.time.pass_seconds(0.01)

    def copy(self, client: int, key: str) -> Checked:
        return self.copies[client].setdefault(key, Checked(id=key))

    def fits(self, record: Checked) -> bool:
        """A record that was never saved goes over nothing; any other over its own version."""
        row = self.checked_rows.get(record.id)
        return row is None if record.version == 0 else row is not None and row.version == record.version

    def refused(self, record: Checked, error: StaleRecordError) -> None:
        row = self.checked_rows.get(record.id)
        assert (error.expected, error.actual) == (record.version or None, None if row is None else row.version)
        self.count("stale")

    # --- what a client does -------------------------------------------------------------------------------------

    @rule(client=clients, key=keys)
    def get(self, client: int, key: str) -> None:
        found = self.stores[client].get(Checked, key, consistent=True)
        row = self.checked_rows.get(key)
        assert (None if found is None else Row(found.version, found.value)) == row
        if found is not None:
            self.copies[client][key] = found
        self.count("read")

    @rule(client=clients, key=keys, value=st.integers(0, 99))
    def put(self, client: int, key: str, value: int) -> None:
        record, fits = self.copy(client, key), self.fits(self.copy(client, key))
        record.value = value
        before = record.model_copy()
        if fits:
            self.stores[client].put(record)
            assert record.version == before.version + 1
            self.checked_rows[key] = Row(record.version, value)
            self.count("put")
            return
        with pytest.raises(StaleRecordError) as caught:
            self.stores[client].put(record)
        assert record == before
        self.refused(record, caught.value)

    @rule(client=clients, key=keys)
    def delete(self, client: int, key: str) -> None:
        record, fits = self.copy(client, key), self.fits(self.copy(client, key))
        before = record.model_copy()
        if fits:
            self.stores[client].delete(record)
            assert record.version == 0
            self.checked_rows.pop(key, None)
            self.count("deleted")
            return
        with pytest.raises(StaleRecordError) as caught:
            self.stores[client].delete(record)
        assert record == before
        self.refused(record, caught.value)

    @rule(client=clients, several=st.sets(keys, min_size=2), value=st.integers(0, 99))
    def put_all(self, client: int, several: set[str], value: int) -> None:
        """All of them, or none: one stale one is enough."""
        records = [self.copy(client, key) for key in sorted(several)]
        for record in records:
            record.value = value
        before, fits = [record.model_copy() for record in records], [self.fits(record) for record in records]
        if all(fits):
            self.stores[client].put_all(records)
            self.checked_rows.update({record.id: Row(record.version, value) for record in records})
            assert [record.version for record in records] == [record.version + 1 for record in before]
            self.count("put together")
            return
        with pytest.raises(StaleRecordError) as caught:
            self.stores[client].put_all(records)
        assert records == before
        assert len(caught.value.failures) == fits.count(False)
        self.count("stale together")

    @rule(client=clients, key=keys)
    def delete_key(self, client: int, key: str) -> None:
        """Whatever its version."""
        self.stores[client].delete_key(Checked, key)
        self.checked_rows.pop(key, None)
        self.count("deleted by key")

    @rule(client=clients, key=keys)
    def forget(self, client: int, key: str) -> None:
        """A copy made anew, as by another process."""
        self.copies[client].pop(key, None)
        self.count("forgotten")

    @rule(client=clients, key=keys, value=st.integers(0, 99))
    def put_unchecked(self, client: int, key: str, value: int) -> None:
        """Versions that are counted and not checked: the last one holds, whatever it had seen."""
        record = self.counted[client].setdefault(key, Counted(id=key))
        record.value, before = value, record.version
        self.stores[client].put(record)
        assert record.version == before + 1
        self.counted_rows[key] = Row(record.version, value)
        self.count("put unchecked")

    # --- what holds ---------------------------------------------------------------------------------------------

    @invariant()
    def the_tables_hold_the_last_versions(self) -> None:
        assert self.rows(CHECKED) == self.checked_rows
        assert self.rows(COUNTED) == self.counted_rows

    def rows(self, table: str) -> dict[str, Row]:
        found: list[Any] = self.world.tables.items(table)
        return {item["id"]["S"]: Row(int(item["version"]["N"]), int(item["value"]["N"])) for item in found}


def test_versions_against_a_dictionary() -> None:
    wanted = ["read", "put", "deleted", "stale", "put together", "stale together", "deleted by key", "put unchecked"]
    with tally("steps of records", *wanted) as counts:
        RecordMachine.counts = counts
        run_state_machine_as_test(RecordMachine, settings=tried(0.005, stateful_step_count=40))  # type: ignore[arg-type]
