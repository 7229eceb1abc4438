"""The promises, each a pure function from a history to what is wrong with it."""

from __future__ import annotations

import itertools
import math
from collections import Counter, defaultdict
from collections.abc import Callable, Iterator

from reliable_write.errors import Outcome
from tests.simulation.history import Change, Did, History, Landed, Place, Write

Complaint = str
Checker = Callable[[History], Iterator[Complaint]]


def nothing_before_the_commit_point(history: History) -> Iterator[Complaint]:
    """G1, first half: nothing is applied before its write is committed."""
    landed = {one.stamp: one.step for one in reversed(history.landed)}
    for place, changes in history.changes.items():
        for change in changes:
            if change.stamp is not None and landed.get(change.stamp, change.step + 1) > change.step:
                yield f"G1: {change.stamp} is applied to {place} at step {change.step}, before its commit point"


def all_that_is_committed_is_applied(history: History) -> Iterator[Complaint]:
    """G1, second half: applied, superseded, or set aside for a person; nothing is left pending, or lost."""
    for stamp in sorted(history.pending):
        yield f"G1: {stamp} is still pending"
    writes = _by_id(history)
    for landed in _once(history):
        write = writes.get(landed.write_id)
        if write is None or landed.stamp in history.set_aside | history.discarded:
            continue
        for deed in write.deeds:
            if deed.writes and not _was_settled(history, deed, landed.stamp, landed.step, None):
                yield f"G1: {deed.kind} of {write.name} ({landed.stamp}) at {deed.place} never took place"


def an_acknowledged_write_is_applied(history: History) -> Iterator[Complaint]:
    """G4 leans on it (CE16): who is told WRITTEN finds everything applied, or superseded."""
    landed = {one.write_id: one for one in reversed(history.landed)}
    exactly = {(one.write_id, one.stamp): one for one in reversed(history.landed)}
    for write in history.writes:
        if write.told is None or write.write_id not in landed:
            continue
        mine = exactly.get((write.write_id, write.stamp or ""), landed[write.write_id])
        if mine.stamp in history.discarded:
            continue
        for deed in write.deeds:
            if deed.writes and not _was_settled(history, deed, mine.stamp, mine.step, write.told):
                yield f"G4: {write.name} was acknowledged before its {deed.kind} of {deed.place} was done"


def the_last_in_order_shows(history: History) -> Iterator[Complaint]:
    """G2 and G3: in the end each item is what its writes make of it in the order of their stamps."""
    for place in sorted({deed.place for write in history.writes for deed in write.deeds}):
        if not _is_given_up(history, place):
            yield from _judge_item(history, place)


def nothing_comes_back(history: History) -> Iterator[Complaint]:
    """G3: what was deleted is not there in the end through a write that is older and was begun before."""
    for place, tombs in sorted(history.tombs.items()):
        shown = _shown(history, place)
        if shown is None or shown.marks is None or shown.full is None or _is_given_up(history, place):
            continue
        for tomb in tombs:
            deleted = any(one.stamp == tomb.stamp and one.marks is None for one in history.changes[place])
            before = history.born_at(shown.full) < _gone_at(history, place, tomb.stamp)
            if deleted and before and shown.last < tomb.stamp:
                yield f"G3: {tomb.stamp} deleted {place}, which is back as {shown.full}"


def a_late_put_takes_itself_back(history: History) -> Iterator[Complaint]:
    """G3, at once: a monitor that put what a delete later in order had deleted before does not leave it there. (What
    first attempts leave, and requests that land when nobody waits for them any more, is the audit's.)
    """
    for put in history.late_puts:
        changes = [one for one in history.changes[put.place] if one.step <= put.finished]
        tombs = [one for one in history.tombs[put.place] if one.stamp > put.stamp and one.step < put.step]
        if changes[-1].step == put.step and tombs:
            yield f"G3: {put.stamp} was put late at {put.place}, which {tombs[-1].stamp} had deleted, and left there"


def what_begins_later_comes_later(history: History) -> Iterator[Complaint]:
    """G4: real time."""
    firsts = [write for write in history.writes if write.told is not None and write.stamp and not write.duplicate]
    for one, other in itertools.permutations(firsts, 2):
        assert one.told is not None
        if one.told >= other.begun or (one.stamp or "") < (other.stamp or ""):
            continue
        for place in sorted(_places(one) & _places(other, but_deletes=True)):
            if not _forgotten(history, place, one.stamp or "", history.born_at(other.stamp or "")):
                yield f"G4: {other.name} began after {one.name} was acknowledged, and is before it at {place}"
                break


def each_takes_effect_once(history: History) -> Iterator[Complaint]:
    """G5: one commit point per write id, and no mark is ever counted twice."""
    landed: defaultdict[str, list[Landed]] = defaultdict(list)
    for one in _once(history):
        landed[one.write_id].append(one)
    for write_id, found in sorted(landed.items()):
        if len(found) > 1 and not _forgotten_between(history, write_id, found):
            yield f"G5: {write_id} took effect {len(found)} times"
    for (mark, stamp), count in sorted(Counter((one.mark or "", one.stamp) for one in history.landed).items()):
        if mark and count > 1:
            yield f"G5: the transaction of {mark} at {stamp} took effect {count} times"
    again = {write.name for write in history.writes if write.write_id in history.forgotten}
    for place, changes in sorted(history.changes.items()):
        for change in changes:
            twice = [name for name, count in (change.marks or {}).items() if count > 1 and name not in again]
            if twice:
                yield f"G5: {twice[0]} counts twice at {place}"
                break


def what_was_told_is_true(history: History) -> Iterator[Complaint]:
    """G6."""
    landed: defaultdict[str, list[Landed]] = defaultdict(list)
    for one in history.landed:
        landed[one.write_id].append(one)
    for write in history.writes:
        found = landed.get(write.write_id or "", [])
        mine = [one for one in found if one.mark == write.mark]
        if write.outcome in (Outcome.WRITTEN, Outcome.WILL_BE_WRITTEN) and not found:
            yield f"G6: {write.name} was told {write.outcome} and is lost"
        if write.outcome is Outcome.NOT_WRITTEN and mine:
            yield f"G6: {write.name} was told not to be written, and is"
        if write.told is not None:
            if write.stamp not in {one.stamp for one in found}:
                yield f"G6: {write.name} was told a stamp under which nothing was written"
            if write.duplicate == bool(mine):
                yield f"G6: {write.name} is told wrongly who wrote it"


CHECKERS: tuple[Checker, ...] = (
    nothing_before_the_commit_point,
    all_that_is_committed_is_applied,
    an_acknowledged_write_is_applied,
    the_last_in_order_shows,
    nothing_comes_back,
    a_late_put_takes_itself_back,
    what_begins_later_comes_later,
    each_takes_effect_once,
    what_was_told_is_true,
)


def judge(history: History) -> list[Complaint]:
    """All complaints of all checkers."""
    return [complaint for checker in CHECKERS for complaint in checker(history)]


# --- what they have in common -------------------------------------------------------------------------------------


def _judge_item(history: History, place: Place) -> Iterator[Complaint]:
    writes = _by_id(history)
    rows = [
        (one.stamp, deed, writes[one.write_id].name)
        for one in _once(history)
        if one.write_id in writes
        for deed in writes[one.write_id].deeds
        if deed.place == place and deed.writes and not _was_left_undone(history, deed, one.stamp)
    ]
    collected = [tomb for tomb in history.tombs.get(place, ()) if tomb.collected]
    due: Counter[str] = Counter()
    for stamp, deed, name in sorted(rows, key=lambda row: row[0]):
        if any(stamp <= tomb.stamp and history.born_at(stamp) < tomb.step for tomb in collected):
            continue  # a collected delete was the last word on it; later writes may have a lower stamp
        if deed.kind != "update":
            due.clear()
        if not deed.kind.startswith("delete"):
            due[name] += 1
    shown = _shown(history, place)
    marks = dict(shown.marks or {}) if shown is not None else {}
    if marks != dict(due):
        yield f"G2: {place} shows {marks} and should show {dict(due)}"


def _was_left_undone(history: History, deed: Did, stamp: str) -> bool:
    """Whether it is what a person must decide about: its entry is set aside, and nobody did this operation.

    A delete may be done by others: its tombstone is put first, and whoever updates the key then goes by that, removes
    what is older, and hands its stamp on (seed 139108). An update that came before the tombstone did not go by it.
    """
    if not deed.journalled or stamp not in history.set_aside:
        return False
    tomb = min((one.step for one in history.tombs.get(deed.place, ()) if one.stamp == stamp), default=math.inf)
    return not any(
        change.stamp == stamp or (change.step > tomb and (change.marks is None or change.full == stamp))
        for change in history.changes.get(deed.place, ())
    )


def _was_settled(history: History, deed: Did, stamp: str, since: int, until: int | None) -> bool:
    """Whether, at some moment between the two, the operation was applied or something later in order was there."""
    before: Change | None = None
    for change in history.changes.get(deed.place, ()):
        if until is not None and change.step > until:
            break
        if change.stamp == stamp or (change.step >= since and change.marks is not None and change.last > stamp):
            return True
        if change.step <= since:
            before = change
    if before is not None and before.marks is not None and before.last > stamp:
        return True
    return any(
        tomb.stamp > stamp and (until is None or tomb.step <= until) for tomb in history.tombs.get(deed.place, ())
    )


def _is_given_up(history: History, place: Place) -> bool:
    """An operator gave up a write that was to be propagated there: nothing is promised any more."""
    ids = {one.write_id for one in history.landed if one.stamp in history.discarded}
    return any(
        write.write_id in ids and any(deed.place == place and deed.journalled for deed in write.deeds)
        for write in history.writes
    )


def _forgotten(history: History, place: Place, stamp: str, born: int) -> bool:
    """A delete later than the write was over and collected before that moment."""
    return any(tomb.collected and stamp <= tomb.stamp and tomb.step < born for tomb in history.tombs.get(place, ()))


def _gone_at(history: History, place: Place, stamp: str) -> float:
    """The step at which a tombstone of this stamp or a later one was collected."""
    return min(
        (tomb.step for tomb in history.tombs.get(place, ()) if tomb.collected and tomb.stamp >= stamp),
        default=float("inf"),
    )


def _shown(history: History, place: Place) -> Change | None:
    changes = history.changes.get(place)
    return changes[-1] if changes else None


def _places(write: Write, *, but_deletes: bool = False) -> set[Place]:
    """A journalled delete need not come after the delete it repeats."""
    return {deed.place for deed in write.deeds if deed.writes and not (but_deletes and deed.kind == "delete")}


def _by_id(history: History) -> dict[str, Write]:
    """Scopes that share an idempotency key record the same operations."""
    return {write.write_id: write for write in history.writes if write.write_id is not None}


def _forgotten_between(history: History, write_id: str, landed: list[Landed]) -> bool:
    """Whether its receipt was over and collected before each time but the first."""
    steps = sorted(one.step for one in landed)
    gone = history.forgotten.get(write_id, ())
    return all(any(before < step <= after for step in gone) for before, after in itertools.pairwise(steps))


def _once(history: History) -> list[Landed]:
    return list({(one.write_id, one.stamp): one for one in reversed(history.landed)}.values())
