"""What reached its commit point, and what the items must be for it: each key in the order of the stamps."""

from __future__ import annotations

import itertools
from collections import Counter, defaultdict
from collections.abc import Iterable, Mapping
from dataclasses import dataclass, field
from typing import Any

from tests.proof.shapes import ABSENT, EXISTS, Deed
from tests.simulation.memory import Request


class Violation(AssertionError):
    """A promise was broken."""


def check(held: object, told: str) -> None:
    if not held:
        raise Violation(told)


@dataclass(frozen=True)
class Landed:
    """A write that reached its commit point, as the tables saw it."""

    write_id: str
    stamp: str
    scope: str | None
    """Which scope it was, in its receipt; None where there is none."""


@dataclass
class History:
    """Every write of one case."""

    deeds: dict[str, tuple[str, tuple[Deed, ...]]] = field(default_factory=dict)
    """Name and operations, by write id."""
    landed: list[Landed] = field(default_factory=list)
    base: dict[str, Counter[str]] = field(default_factory=dict)
    """Items of somebody without this library."""
    loose: set[tuple[str, str]] = field(default_factory=set)
    """Stamps and keys of which an operator decides: a conflict that is told."""
    given_up: set[tuple[str, str]] = field(default_factory=set)
    """The same, of what an operator gave up."""
    rival_deletes: bool = False
    """Plain deletes in between: one that repeats another need not come after it, so that it may stand before a write
    that still saw the item.
    """

    def note(self, call: str, request: Request) -> None:
        """Called for all that took effect."""
        if call == "transact_write_items":
            puts = [action["Put"]["Item"] for action in request["TransactItems"] if "Put" in action]
            for item in puts:
                if _pk(item).startswith("R#"):
                    write_id = _pk(item).removeprefix("R#")
                    self.landed.append(Landed(write_id, item["stamp"]["S"], item["scope"]["S"]))
        elif call == "put_item" and _pk(request["Item"]).startswith("J#"):
            stamp = request["Item"]["sk"]["S"]
            self.landed.append(Landed(stamp, stamp, None))

    def of(self, write_id: str | None) -> set[Landed]:
        return {one for one in self.landed if one.write_id == write_id}

    def check_once(self) -> None:
        """A receipt lets one attempt through; an entry may be put again, by a late duplicate, with the same stamp."""
        for write_id, number in Counter(one.write_id for one in self.landed if one.scope is not None).items():
            check(number == 1, f"{write_id} took effect {number} times")

    def check_key(self, key: str, shown: Mapping[str, Any] | None) -> None:
        """The item is what its writes make of it."""
        found = None if shown is None else _marks(shown)
        due = self._possible(key)
        check(found in due, f"{key} shows {found} and not {' or '.join(map(str, due))}")

    def _possible(self, key: str) -> list[Counter[str] | None]:
        rows = sorted((one.stamp, *self.deeds[one.write_id]) for one in set(self.landed) if one.write_id in self.deeds)
        mine = [(stamp, name, deed) for stamp, name, deeds in rows for deed in deeds if key in deed.keys]
        mine = [row for row in mine if (row[0], key) not in self.given_up]
        loose = [row for row in mine if (row[0], key) in self.loose]
        choices = itertools.chain.from_iterable(itertools.combinations(loose, count) for count in range(len(loose) + 1))
        made, impossible = [], Violation("nothing was tried")
        for left_out in choices:
            try:
                made.append(self._made([row for row in mine if row not in left_out], key))
            except Violation as violation:
                impossible = violation
        if not made:
            raise impossible
        return made

    def _made(self, rows: Iterable[tuple[str, str, Deed]], key: str) -> Counter[str] | None:
        """Raises `Violation` where a condition did not hold that must have."""
        item = self.base.get(key)
        for _, name, deed in rows:
            if deed.condition == EXISTS and not self.rival_deletes:
                check(item is not None, f"{name} took effect on {key}, which its condition says is there")
            if deed.condition == ABSENT:
                check(item is None, f"{name} took effect on {key}, which its condition says is not there")
            if deed.kind == "put":
                item = Counter({name: 1})
            elif deed.kind == "delete":
                item = None
            elif deed.kind == "update":
                item = (item or Counter()) + Counter({name: 1})
        return item

    def stamps_by_name(self) -> dict[str, list[str]]:
        found: defaultdict[str, list[str]] = defaultdict(list)
        for one in self.landed:
            if one.write_id in self.deeds:
                found[self.deeds[one.write_id][0]].append(one.stamp)
        return found


def _marks(item: Mapping[str, Any]) -> Counter[str]:
    return Counter({name: int(value["N"]) for name, value in item.items() if "N" in value})


def _pk(item: Mapping[str, Any]) -> str:
    return str(item.get("pk", {}).get("S", ""))
