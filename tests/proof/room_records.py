"""Records: never half, a version that grows by one with each effect, no lost update, a deleted one that is told.

A page holds the tags of all who wrote it, each its own; so whose write is lost, or counted twice, shows in the page.
"""

from __future__ import annotations

import contextlib
from collections import Counter
from collections.abc import Callable, Iterator
from dataclasses import dataclass, field
from functools import partial
from typing import Annotated, Any, ClassVar

from monitor.auditor import Auditor
from reliable_write import (
    HashKey,
    Outcome,
    Record,
    RecordDeletedError,
    RecordStore,
    ReliableWriteError,
    SharedRecord,
    SharedRecords,
    Version,
)
from reliable_write.dynamodb import CallName
from reliable_write.errors import CommitUnknownError
from tests.proof.cases import W
from tests.proof.history import check
from tests.proof.room_world import RoomCase, RoomPlan, Scenario, Writer
from tests.proof.wire import is_commit_point
from tests.simulation.memory import Request

PAGES, NOTES, PAGE, NOTE = "pages", "notes", "p-1", "n-1"
MARK = "_rwd"


class Page(Record, table=PAGES):
    """With a version that is checked."""

    id: Annotated[str, HashKey()]
    tags: list[str] = []
    twin: list[str] = []
    version: Annotated[int, Version()] = 0


class Note(Record, table=NOTES):
    """Without one: its writes go through the journal."""

    id: Annotated[str, HashKey()]
    text: str
    twin: str


@dataclass
class Write:
    """One call, what it sent and what was said of it."""

    name: str
    begun: int
    sent: list[Request] = field(default_factory=list)
    outcome: Outcome | None = None
    scope: Any = None
    keyed: bool = False


class RecordCase(RoomCase):
    """A page and a note, and those who write them."""

    room = "records"
    tables_made: ClassVar = {PAGES: ("id",), NOTES: ("id",)}

    def __init__(self, plan: RoomPlan) -> None:
        self.writes: list[Write] = []
        self.added: Counter[str] = Counter()
        self.landed: list[tuple[str, Request]] = []
        self.handle: SharedRecord[Page] | None = None
        self.states: list[list[str] | None] = []
        self.notes_of_others = False
        super().__init__(plan)
        self.auditor = Auditor(self.process().engine())

    # --- writing ------------------------------------------------------------------------------------------------

    def write(self, name: str, deed: Callable[[], object], *, keyed: bool = False) -> bool:
        """One call of ours; whether it said that all is written."""
        write = Write(name, len(self.wire.sent), keyed=keyed)
        self.writes.append(write)
        try:
            self.said(write, deed)
        finally:
            write.sent += self.wire.sent[write.begun :]
        return write.outcome is Outcome.WRITTEN

    def said(self, write: Write, deed: Callable[[], object]) -> None:
        write.outcome = None
        try:
            deed()
        except CommitUnknownError as unknown:
            write.outcome, write.scope = Outcome.UNKNOWN, unknown.scope
        except ReliableWriteError as error:
            write.outcome = error.outcome
        else:
            write.outcome = Outcome.WRITTEN
        self.outcomes[write.outcome.name] += 1

    def find_out(self) -> None:
        for write in self.writes:
            if write.outcome is Outcome.UNKNOWN and write.scope is not None:
                begun = len(self.wire.sent)
                self.said(write, write.scope.commit)
                write.sent += self.wire.sent[begun:]
                check(write.outcome is not Outcome.UNKNOWN, "nothing goes wrong, and it does not know")
                self.outcomes[f"found out: {write.outcome}"] += 1

    # --- others -------------------------------------------------------------------------------------------------

    @contextlib.contextmanager
    def aside(self) -> Iterator[Writer]:
        playing, self.playing = self.playing, False
        try:
            yield self.process()
        finally:
            self.playing = playing

    def interfere(self, kind: str) -> None:
        self.pass_seconds(0.02)
        with self.aside() as writer:
            for _ in range(2 if kind == "update" else 1):
                self.others_write(writer, delete=kind == "delete")
        self.pass_seconds(0.02)

    def others_write(self, writer: Writer, *, delete: bool = False) -> None:
        store = RecordStore(writer)
        shared = SharedRecords(store)
        name = self.tag()
        self.notes_of_others = True
        try:
            handle = shared.get(Page, PAGE)
        except RecordDeletedError:
            handle = None
        if delete:
            store.delete_key(Note, NOTE)
            if handle is not None:
                handle.delete()
            return
        store.put(Note(id=NOTE, text=name, twin=name))
        if handle is None:
            shared.create(self.page(name))
        else:
            handle.update(lambda page: tagged(page, name))
        check(self.added[name] == 1, f"{name} was told to be written, and is not")

    def go_on(self) -> None:
        """Monitors: what is in the journal is finished, ghosts go."""
        self.helper.engine().recovery.resume_all()
        self.auditor.run_once()

    def heal(self) -> None:
        self.pass_seconds(11.0)
        self.others_finish()
        for write in [one for one in self.writes if one.keyed]:
            self.twin_of(write)
        if self.handle is not None and not self.wire.dead:
            self.check_shown(self.handle)

    def twin_of(self, write: Write) -> None:
        """Another process writes the same under the same key, as a task queue does."""
        there = self.added[write.name]
        with self.aside() as writer:
            try:
                receipt = RecordStore(writer).put(self.page(write.name), idempotency_key="key-1")
            except ReliableWriteError as error:
                check(error.outcome is Outcome.NOT_WRITTEN and not there, f"a twin was told {error!r}")
                return
            check(receipt.duplicate == bool(there), "a twin was told wrongly who wrote it")

    def check_shown(self, handle: SharedRecord[Page]) -> None:
        """The handle shows what is there, whatever it has met."""
        item = self.item(PAGES, PAGE)
        try:
            shown = handle.read()
        except RecordDeletedError:
            check(not item or MARK in item, "told to be deleted, and is there")
            return
        check(item and MARK not in item, "shown, and is deleted")
        check(shown.tags == tags_of(item), "another content is shown than is there")

    # --- noticing -----------------------------------------------------------------------------------------------

    def apply(self, call: CallName, request: Request) -> dict[str, Any]:
        before = self.item(PAGES, PAGE)
        answer = super().apply(call, request)
        after = self.item(PAGES, PAGE)
        if after != before:
            self.check_change(before, after)
            self.states.append(self.shown())
        if is_commit_point(call, request):
            self.landed.append((identity(call, request), request))
        note = self.item(NOTES, NOTE)
        check(note.get("text") == note.get("twin"), "half a note")
        return answer

    def check_change(self, before: dict[str, Any], after: dict[str, Any]) -> None:
        """One effect: the version is one higher, and nobody's tag is lost."""
        if not after:
            return
        follows = int(before["version"]["N"]) + 1 if before else 1
        check(int(after["version"]["N"]) == follows, f"version {after['version']['N']} and not {follows}")
        if MARK in after:
            return
        tags = tags_of(after)
        check(tags == [one["S"] for one in after["twin"]["L"]], "half a page")
        kept = [] if not before or MARK in before else tags_of(before)
        check(tags[:-1] == kept, f"{tags} after {kept}: somebody's update is lost")
        self.added[tags[-1]] += 1
        check(self.added[tags[-1]] == 1, f"{tags[-1]} was written twice")

    # --- judging ------------------------------------------------------------------------------------------------

    def judge(self) -> None:
        for write in self.writes:
            self.check_outcome(write)
        self.check_unwritten()
        self.check_note()
        self.collect()
        for prefix, what in (("J#", "entries"), ("C#", "chunks"), ("T#", "tombstones"), ("R#", "receipts")):
            check(not self.world.records(prefix), f"{what} are left")

    def check_outcome(self, write: Write) -> None:
        mine = {name for name, request in self.landed if any(request is one for one in write.sent)}
        if write.outcome is Outcome.NOT_WRITTEN:
            check(not mine, f"{write.name} was told not to be written, and is")
        elif write.outcome in (Outcome.WRITTEN, Outcome.WILL_BE_WRITTEN):
            once = len(mine) == 1 or (write.keyed and self.added[write.name] == 1)
            check(once, f"{write.name} was told to be written, and took effect {len(mine)} times")

    def check_note(self) -> None:
        last = [one for one in self.writes if one.name.startswith("note")][-1:]
        certain = [one for one in last if one.outcome in (Outcome.WRITTEN, Outcome.WILL_BE_WRITTEN)]
        if certain and not self.notes_of_others:
            item = self.item(NOTES, NOTE)
            shown = item.get("text", {}).get("S", "")
            wanted = "" if "delete" in certain[0].name else certain[0].name
            check(shown == wanted, f"the note is {shown!r} and not {wanted!r}")

    def collect(self) -> None:
        for pause in (31.0, *[W + 1] * 4, 16 * 86_400.0, W + 1):
            self.pass_seconds(pause)
            self.others_finish()

    # --- scenarios ----------------------------------------------------------------------------------------------

    @property
    def store(self) -> RecordStore:
        return RecordStore(self.me)

    @property
    def shared(self) -> SharedRecords:
        return SharedRecords(self.store)

    def tag(self) -> str:
        return f"t{next(self.names)}"

    @staticmethod
    def page(name: str) -> Page:
        return Page(id=PAGE, tags=[name], twin=[name])

    def there(self) -> Page | None:
        """Read before it is written."""
        return self.store.get(Page, PAGE, consistent=True)

    def put_new(self) -> None:
        page = self.page(name := self.tag())
        if self.write(name, lambda: self.store.put(page)):
            check(page.version == 1, "the local object has another version")
            name = self.tag()
            self.write(name, lambda: self.store.put(tagged(page, name)))

    def put_over(self) -> None:
        page = self.there()
        for name in (self.tag(), self.tag()):
            if page is None or not self.write(name, partial(self._put_tagged, page, name)):
                return

    def _put_tagged(self, page: Page, name: str) -> None:
        self.store.put(tagged(page, name))

    def delete(self) -> None:
        page = self.there()
        if page is not None and self.write("delete", lambda: self.store.delete(page)):
            self.write("again", lambda: self.store.delete_key(Page, PAGE))

    def put_keyed(self) -> None:
        page = self.page(name := self.tag())
        self.write(name, lambda: self.store.put(page, idempotency_key="key-1"), keyed=True)

    def put_both(self) -> None:
        page = self.there() or Page(id=PAGE)
        name = f"note {self.tag()}"
        self.write(name, lambda: self.store.put_all([tagged(page, name), Note(id=NOTE, text=name, twin=name)]))

    def delete_both(self) -> None:
        page = self.there()
        if page is not None:
            note = Note(id=NOTE, text="", twin="")
            self.write("note delete", lambda: self.store.delete_all([page, note]))

    def put_note(self) -> None:
        for name in (f"note {self.tag()}", f"note {self.tag()}"):
            note = Note(id=NOTE, text=name, twin=name)
            if not self.write(name, partial(self.store.put, note)):
                return

    def put_note_at_once(self) -> None:
        note = Note(id=NOTE, text=(name := f"note {self.tag()}"), twin=name)
        self.write(name, lambda: self.store.put(note, strategy="transaction"))

    def delete_note(self) -> None:
        self.write("note delete", lambda: self.store.delete_key(Note, NOTE))

    def look(self) -> None:
        """Reads write nothing, and show what is there."""
        begun = len(self.wire.sent)
        store = self.store
        self.check_read(self.there)
        self.check_read(lambda: store.batch_get(Page, [PAGE], consistent=True)[0])
        self.check_read(lambda: next(store.scan(Page, consistent=True), None))
        self.check_read(lambda: store.get(Page, PAGE, pending=True).record)
        self.unwritten += self.wire.sent[begun:]

    def check_read(self, read: Callable[[], Page | None]) -> None:
        """It shows what was there at some moment while it was read."""
        self.states = [self.shown()]
        page = read()
        check((None if page is None else page.tags) in self.states, "another content is read than was there")

    def shown(self) -> list[str] | None:
        item = self.item(PAGES, PAGE)
        return tags_of(item) if item and MARK not in item else None

    def create(self) -> None:
        page = self.page(name := self.tag())
        shared = self.shared

        def deed() -> None:
            self.handle = shared.create(page)

        self.write(name, deed)

    def update(self) -> None:
        self.handle = self.shared.get(Page, PAGE)
        if self.handle is None:
            return
        for name in (self.tag(), self.tag()):
            written: list[Page] = []

            def deed(name: str = name, written: list[Page] = written) -> None:
                assert self.handle is not None
                written.append(self.handle.update(lambda page: tagged(page, name)))

            if self.write(name, deed):
                check(written[0].tags[-1] == name, "another content was told than was written")

    def put_copy(self) -> None:
        self.handle = self.shared.get(Page, PAGE)
        if self.handle is None:
            return
        handle, copy, name = self.handle, self.handle.read(), self.tag()
        self.write(name, lambda: handle.put(tagged(copy, name)))

    def delete_shared(self) -> None:
        self.handle = self.shared.get(Page, PAGE)
        if self.handle is not None:
            self.write("delete", self.handle.delete)

    def read_shared(self) -> None:
        """While somebody else writes."""
        self.handle = self.shared.get(Page, PAGE)
        if self.handle is None:
            return
        for read in (self.handle.read, self.handle.refresh, self.handle.read):
            with self.aside() as writer:
                self.others_write(writer)
            with contextlib.suppress(ReliableWriteError), self.honestly():
                self.check_read(read)

    # --- beginnings ---------------------------------------------------------------------------------------------

    def begin_there(self) -> None:
        with self.aside() as writer:
            self.others_write(writer)
        self.notes_of_others = False

    def begin_deleted(self) -> None:
        self.begin_there()
        with self.aside() as writer:
            self.others_write(writer, delete=True)
        self.notes_of_others = False


def tagged(page: Page, name: str) -> Page:
    page.tags.append(name)
    page.twin.append(name)
    return page


def tags_of(item: dict[str, Any]) -> list[str]:
    return [one["S"] for one in item["tags"]["L"]]


def identity(call: str, request: Request) -> str:
    """An entry may be put again by a late duplicate, with the same stamp; a receipt lets one through."""
    if call == "put_item":
        return str(request["Item"]["sk"]["S"])
    return str(request.get("ClientRequestToken"))


RecordCase.scenarios = (
    Scenario("put a new one", RecordCase.put_new),
    Scenario("put over it, twice", RecordCase.put_over, RecordCase.begin_there),
    Scenario("delete", RecordCase.delete, RecordCase.begin_there),
    Scenario("put with a key", RecordCase.put_keyed),
    Scenario("put two, one without a version", RecordCase.put_both, RecordCase.begin_there),
    Scenario("delete two, one without a version", RecordCase.delete_both, RecordCase.begin_there),
    Scenario("put without a version", RecordCase.put_note, RecordCase.begin_there),
    Scenario("put without a version as a transaction", RecordCase.put_note_at_once, RecordCase.begin_deleted),
    Scenario("delete a key", RecordCase.delete_note, RecordCase.begin_there),
    Scenario("look", RecordCase.look, RecordCase.begin_there),
    Scenario("shared: create", RecordCase.create),
    Scenario("shared: create over a mark", RecordCase.create, RecordCase.begin_deleted),
    Scenario("shared: update", RecordCase.update, RecordCase.begin_there),
    Scenario("shared: put a copy", RecordCase.put_copy, RecordCase.begin_there),
    Scenario("shared: delete", RecordCase.delete_shared, RecordCase.begin_there),
    Scenario("shared: read", RecordCase.read_shared, RecordCase.begin_there),
)
