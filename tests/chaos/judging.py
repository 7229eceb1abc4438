"""What callers were told against what stands in the tables: the judge of storms over `restarts` and `clients`."""

from __future__ import annotations

from collections import Counter, defaultdict
from collections.abc import Sequence

from monitor.auditor import Auditor, AuditSettings
from reliable_write import Outcome
from tests.chaos.clients import SUMS, SWITCHES, Place, Told, commit
from tests.chaos.restarts import GROUPS, Story, rows_of
from tests.clocks import SkippingTime
from tests.world import World


class Ledger:
    """What callers were told against what stands in the tables."""

    def __init__(self, world: World, tables: list[str], stories: list[Story]) -> None:
        self._tables = tables
        self._stories = stories
        self._items = {table: {item["id"]["S"]: item for item in world.items(table)} for table in tables}
        self._stamps = {story.mark: self._stamp_of(story) for story in stories}
        """Of each scope that shows; those of others are empty."""

    def check(self) -> None:
        for story in self._stories:
            self._check_told(story)
        self._check_nothing_else_shows()
        for group in range(GROUPS):
            stories = [story for story in self._stories if story.group == group and self._stamps[story.mark]]
            self._check_winner(group, stories)
            _check_real_time(stories, self._stamps)

    def shown(self, *words: Outcome) -> set[str]:
        """Write ids of scopes that show although the last word on them was one of these."""
        return {
            story.write_id
            for story in self._stories
            if story.words[-1] in words and self._stamps[story.mark] and story.write_id
        }

    def shows(self, story: Story) -> bool:
        return bool(self._stamps[story.mark])

    def deleted_groups(self) -> int:
        return sum(not self._rows(group) for group in range(GROUPS))

    def _stamp_of(self, story: Story) -> str:
        """All or nothing, with one stamp."""
        copies = [items[story.mark] for items in self._items.values() if story.mark in items]
        assert len(copies) in (0, len(self._tables)), story
        assert len({copy["_rw"]["S"] for copy in copies}) <= 1, story
        return copies[0]["_rw"]["S"] if copies else ""

    def _check_told(self, story: Story) -> None:
        first, last = story.words[0], story.words[-1]
        if last in (Outcome.WRITTEN, Outcome.WILL_BE_WRITTEN):
            assert self._stamps[story.mark] == story.write_id, story
        elif last is Outcome.NOT_WRITTEN:
            assert not self._stamps[story.mark], story
            assert first is Outcome.NOT_WRITTEN, f"what may have been committed was given up: {story}"

    def _check_nothing_else_shows(self) -> None:
        known = {stamp for stamp in self._stamps.values() if stamp}
        shown = {item["_rw"]["S"] for items in self._items.values() for item in items.values()}
        assert shown <= known

    def _check_winner(self, group: int, stories: list[Story]) -> None:
        """G2, G3: every row is as the last one in order left it; who was superseded was so by a later one."""
        winner = max(stories, key=lambda story: self._stamps[story.mark])
        wanted = {
            (table, key): (winner.mark, self._stamps[winner.mark])
            for table, keys in rows_of(self._tables, group).items()
            if table in winner.puts
            for key in keys
        }
        assert self._rows(group) == wanted, winner
        assert winner.superseded == 0
        for story in stories:
            if story.begun > winner.ended and winner.words[-1] is Outcome.WRITTEN:
                assert not winner.puts | story.puts, "only a delete need not come after the delete it repeats"

    def _rows(self, group: int) -> dict[tuple[str, str], tuple[str, str]]:
        return {
            (table, key): (self._items[table][key]["value"]["S"], self._items[table][key]["_rw"]["S"])
            for table, keys in rows_of(self._tables, group).items()
            for key in keys
            if key in self._items[table]
        }


def _check_real_time(stories: list[Story], stamps: dict[str, str]) -> None:
    """G4, for all pairs over one group: who began after another's receipt has the greater stamp.

    But for scopes that only delete: where a key is gone already, they need not come after what deleted it.
    """
    acknowledged = sorted(
        (story for story in stories if story.words[-1] is Outcome.WRITTEN), key=lambda story: story.ended
    )
    receipts = iter(acknowledged)
    following = next(receipts, None)
    greatest = ""
    for story in sorted(stories, key=lambda one: one.begun):
        while following is not None and following.ended < story.begun:
            greatest = max(greatest, stamps[following.mark])
            following = next(receipts, None)
        if story.puts:
            assert stamps[story.mark] > greatest, story


def audit_once_more(world: World) -> int:
    """Look at every tombstone when nothing is under way any more; how many ghosts there were."""
    clock = SkippingTime()
    auditor = Auditor(world.writer(time=clock).engine(), AuditSettings(gc=False))
    assert auditor.run_once().complete
    clock.skip(10 * AuditSettings().early_audit_after_seconds)
    last = auditor.run_once()
    assert last.complete
    assert last.audited == last.tombstones > 0
    assert (last.troubles, last.skipped, last.foreign) == (0, 0, 0)
    return last.ghosts_removed


def settled_deeds(world: World, place: Place, told: Sequence[Told]) -> list[Told]:
    """Commit what nobody knows once more, by the same key, from this process."""
    writer = world.writer()
    unknown = [one.deed for one in told if one.words[-1] is Outcome.UNKNOWN and one.deed.key is not None]
    again = [commit(writer, place, deed) for deed in unknown]
    assert all(one.words == (Outcome.WRITTEN,) for one in again), again
    return again


def check_deeds(world: World, place: Place, all_told: Sequence[Told]) -> None:
    """G1, G5, G6: every row as its callers were told, sums as the rows say, switches as they follow each other."""
    rows = {item["id"]["S"]: item for item in world.items(place.rows)}
    stamps = {mark: item["_rw"]["S"] for mark, item in rows.items()}
    told: defaultdict[str, list[Told]] = defaultdict(list)
    for one in all_told:
        told[one.deed.mark].append(one)
    assert rows.keys() <= told.keys()
    for mark, words in told.items():
        _check_words(words, stamps.get(mark))
    shown = {item["id"]["S"]: item for item in world.items(place.numbers)}
    sums = Counter(name["S"] for item in rows.values() if item["kind"]["S"] == "add" for name in item["on"]["L"])
    assert sums == {name: int(shown[name]["n"]["N"]) for name in SUMS}
    for switch in SWITCHES:
        turns = sorted(
            (stamps[mark], item["lit"]["BOOL"])
            for mark, item in rows.items()
            if item["kind"]["S"] == "switch" and item["on"]["L"] == [{"S": switch}]
        )
        assert [lit for _, lit in turns] == [number % 2 == 0 for number in range(len(turns))], switch
        assert [(item["_rw"]["S"], item["lit"]["BOOL"]) for item in [shown.get(switch)] if item] == turns[-1:]


def _check_words(words: list[Told], stamp: str | None) -> None:
    """All callers of one mark, against the stamp of its row."""
    last = {told.words[-1] for told in words}
    if last & {Outcome.WRITTEN, Outcome.WILL_BE_WRITTEN}:
        assert stamp is not None, words
    elif last == {Outcome.NOT_WRITTEN}:
        assert stamp is None, words
    assert {told.stamp for told in words if told.stamp} <= {stamp}, words
    assert sum(told.words[-1] is Outcome.WRITTEN and not told.duplicate for told in words) <= 1, words
