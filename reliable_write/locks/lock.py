"""The handle of a lock: waiting for it, taking it over from the dead, and sharing it among the threads of a process."""

from __future__ import annotations

import contextlib
import datetime as dt
import itertools
import math
import os
import socket
import threading
from collections.abc import Callable
from types import TracebackType
from typing import Any, Final

from reliable_write import limits
from reliable_write.clock import Deadline, TimeSource
from reliable_write.errors import (
    CommitFailedError,
    ConfigurationError,
    InvalidKeyError,
    LockLostError,
    LockNotAcquiredError,
    WrongThreadError,
)
from reliable_write.events import Event
from reliable_write.locks.data import encode_data
from reliable_write.locks.failures import reading, writing
from reliable_write.locks.hold import Hold, Terms
from reliable_write.locks.items import FREE, Claim, LockItem, LockState
from reliable_write.locks.lease import Lease
from reliable_write.locks.rhythm import make_rhythm
from reliable_write.locks.turns import Turns
from reliable_write.locks.waiting import NOTHING_SEEN, Sight, Standing, Watch, judge, pause_seconds
from reliable_write.operations import TableSchema, make_key
from reliable_write.recording import schema_of
from reliable_write.scope import ReliableWriteScope
from reliable_write.values import AttributeValue
from reliable_write.writer import ReliableWriter

_ID_BYTES: Final = 8
"""Of a handle, and again of each of its leases."""
Callback = Callable[[Lease], object]
Key = str | int | bytes


class Lock:
    """A lock for all processes that know its table and key.

        lock = Lock(writer, "locks", "campaign-7")
        with lock as lease:                       # waits for it; renews the lease behind your back; releases it
            ...
        lease = lock.try_acquire()                # None where somebody else has it

    `key` is the hash key of the lock's item and `sort_key` its range key, where the table has one. Safe for threads:
    those that share a handle wait for each other. A handle belongs to the process that made it; a forked child makes
    its own.

    - `lease_seconds`: how long the lock outlives its holder's last sign of life; `heartbeat_seconds`: between them, a
      quarter of a lease where not given, and `heartbeat=False` for none at all: then `Lease.renew` does it.
    - `on_danger(lease)` is called when the lease could not be renewed for `safe_seconds` (half a lease), within one
      request's timeout of that; `on_lost(lease)` once, when it is lost. Both by whichever thread finds out, mostly the
      heartbeat's: they should be quick.
    - `reentrant`: the thread that holds it may acquire it again, gets the same lease, and releases it as often.
      Otherwise that raises `LockNotAcquiredError` at once, as waiting for oneself would never end.
    - `delete_on_release`: whether data beside the lock go when it is released. The item and the token stay.

    Making one sends nothing. Raises `ConfigurationError` for spans that do not fit together.
    """

    def __init__(
        self,
        writer: ReliableWriter,
        table: str,
        key: Key,
        *,
        sort_key: Key | None = None,
        owner: str | None = None,
        lease_seconds: float = limits.LOCK_LEASE_SECONDS,
        heartbeat_seconds: float | None = None,
        safe_seconds: float | None = None,
        heartbeat: bool = True,
        poll_seconds: float = limits.LOCK_POLL_SECONDS,
        delete_on_release: bool = True,
        reentrant: bool = False,
        on_danger: Callback | None = None,
        on_lost: Callback | None = None,
    ) -> None:
        if not isinstance(writer, ReliableWriter):
            raise TypeError(f"A lock takes a ReliableWriter first, not {type(writer).__name__}.")
        if not 0 < poll_seconds < math.inf:
            raise ConfigurationError(f"poll_seconds is {poll_seconds}; it takes more than 0.")
        self._writer = writer
        self._table = table
        self._key = (key, sort_key)
        self._rhythm = make_rhythm(lease_seconds, heartbeat_seconds, safe_seconds, _request_seconds(writer))
        self._heartbeat = heartbeat
        self._poll_seconds = poll_seconds
        self._delete = delete_on_release
        self._reentrant = reentrant
        self._on_danger = on_danger
        self._on_lost = on_lost
        self._id = writer.time.random_bytes(_ID_BYTES).hex()
        self._owner = _checked_owner(owner) if owner is not None else _default_owner(self._id)
        self._pid = os.getpid()
        self._turns = Turns()
        self._watch = Watch(writer.time)
        self._lease: Lease | None = None
        self._entered = threading.local()
        self._item_key: dict[str, Any] | None = None

    @property
    def owner(self) -> str:
        """The name others see while this handle holds the lock."""
        return self._owner

    @property
    def table(self) -> str:
        """Where its item lies."""
        return self._table

    @property
    def key(self) -> tuple[Key, Key | None]:
        """Hash key, and range key where there is one."""
        return self._key

    @property
    def time(self) -> TimeSource:
        """The clocks it goes by: its writer's."""
        return self._writer.time

    @property
    def lease(self) -> Lease | None:
        """What this handle holds now, in whichever thread; None where it holds nothing."""
        return self._lease if self._pid == os.getpid() else None

    def __repr__(self) -> str:
        return f"<Lock in {self._table} of {self._owner}, {'held here' if self.lease else 'not held here'}>"

    # --- taking -------------------------------------------------------------------------------------------------

    def acquire(self, blocking: bool = True, timeout: float | None = None, *, data: Any = None) -> Lease:
        """Wait for the lock and take it. `timeout` in seconds; without one it waits for ever.

        A dead holder's lock is free for a waiter who has watched it for a whole lease: with less time than that, or
        `blocking=False`, it is had only if the same handle has watched it before. `data` (what DynamoDB holds: text,
        bytes, numbers, lists, maps; 64 KB) lie beside the lock, for all to read; without them what an earlier holder
        left stays.

        Raises `LockNotAcquiredError` where somebody else has it; `CommitFailedError` or `ReadFailedError` where the
        store gave no answer, which says nothing about the lock; `InvalidKeyError`, `UnknownTableError`,
        `InvalidItemError`.
        """
        self._check_process()
        if timeout is not None and not 0 <= timeout < math.inf:
            raise ValueError(f"timeout is {timeout}; it is a number of seconds, or None to wait for ever.")
        seconds = timeout if blocking else 0.0
        encoded = None if data is None else encode_data(data)
        if self._turns.mine:
            return self._once_more(data)
        deadline = None if seconds is None else Deadline.after(seconds, self._writer.time)
        if not self._turns.take(seconds):
            raise self._refused(NOTHING_SEEN, f"another thread of this process ({self._owner})")
        try:
            self._lease = lease = self._contend(encoded, deadline)
            if self._heartbeat:
                lease.keep_alive()
        except BaseException:  # Ctrl-C too: nobody would end the heartbeats of a lease that nobody was given
            self._abandon()
            raise
        return lease

    def try_acquire(self, timeout: float = 0.0, *, data: Any = None) -> Lease | None:
        """The same; None where somebody else has it by then. What is wrong otherwise raises as in `acquire`."""
        try:
            return self.acquire(timeout=timeout, data=data)
        except LockNotAcquiredError:
            return None

    def release(self, *, delete: bool | None = None) -> bool:
        """Let go what this handle holds. See `Lease.release`. Raises `LockLostError` where it holds nothing."""
        return self._held().release(delete=delete)

    def guard(self, scope: ReliableWriteScope) -> None:
        """See `Lease.guard`. Raises `LockLostError` where this handle holds nothing."""
        self._held().guard(scope)

    def __enter__(self) -> Lease:
        lease = self.acquire()
        self._stack().append(lease)
        return lease

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, traceback: TracebackType | None
    ) -> None:
        self._stack().pop().__exit__(kind, error, traceback)

    # --- looking ------------------------------------------------------------------------------------------------

    def peek(self) -> LockState:
        """Who holds it and what lies beside it, strongly read, without taking it. Raises `ReadFailedError`."""
        with reading(self._table):
            return self._terms().item.read(self._writer.engine().attempt_deadline())

    def locked(self) -> bool:
        """Whether somebody holds it, alive or dead, strongly read. Raises `ReadFailedError`."""
        return self.peek().held

    # --- inside -------------------------------------------------------------------------------------------------

    def _once_more(self, data: Any) -> Lease:
        if not self._reentrant:
            raise self._refused(NOTHING_SEEN, f"this very thread ({self._owner}), and it is not reentrant")
        lease = self._held()
        lease.check()
        if data is not None:
            lease.renew(data=data)
        self._turns.again()
        return lease

    def _contend(self, data: AttributeValue | None, deadline: Deadline | None) -> Lease:
        """Take it as free at once, which costs one request where it is; then look until it may be had."""
        terms, over = self._terms(), FREE
        while True:
            lease, state = self._attempt(terms, over, data)
            if lease is not None:
                return lease
            over = self._await(terms.item, state, deadline)

    def _attempt(self, terms: Terms, over: LockState, data: AttributeValue | None) -> tuple[Lease | None, LockState]:
        """Take it if it is as it was seen. A lease that has run out when its answer comes is none; it is ours to
        take.
        """
        time = self._writer.time
        lease_id = self._id + time.random_bytes(_ID_BYTES).hex()
        claim = Claim(self._owner, lease_id, self._rhythm.lease_seconds, int(time.wall_seconds() * 1000), data)
        ends = Deadline.after(self._rhythm.lease_seconds, time)
        seen_seconds = self._watch.see(over).unchanged_seconds if over.held else 0.0
        patience = min(terms.engine.settings.attempt_deadline_seconds, self._rhythm.last_request_seconds)
        with writing(self._table, "acquired", "If it was, it is free once its lease has run out, or for this handle."):
            state = terms.item.claim(claim, over, Deadline.after(patience, time))
        if state.lease_id != lease_id or ends.passed():
            return None, state
        if over.held:
            terms.engine.events.info(
                Event.LOCK_TAKEN_OVER,
                table=self._table,
                owner=self._owner,
                token=state.token,
                taken_from=over.owner,
                unchanged_seconds=round(seen_seconds, 3),
            )
        return self._leased(Hold(terms, state, ends)), state

    def _await(self, item: LockItem, state: LockState, deadline: Deadline | None) -> LockState:
        """Look until it may be had; as it was then. Raises `LockNotAcquiredError` once the time is over."""
        for looks in itertools.count(1):
            sight = self._watch.see(state)
            if judge(sight, self._id) is not Standing.HELD:
                return state if state.held else FREE
            remaining = math.inf if deadline is None else deadline.remaining_seconds()
            if remaining <= 0:
                raise self._refused(sight, str(state.owner))
            time = self._writer.time
            time.sleep(min(remaining, pause_seconds(looks, sight, self._poll_seconds, time)))
            with reading(self._table):
                state = item.read(self._writer.engine().attempt_deadline())
        raise AssertionError

    def _leased(self, hold: Hold) -> Lease:
        lease = Lease(hold, self._turns.less, self._let_go)
        hold.on_danger = _bound(self._on_danger, lease)
        hold.on_lost = _bound(self._on_lost, lease)
        return lease

    def _abandon(self) -> None:
        if self._lease is None:
            self._turns.free()
            return
        with contextlib.suppress(CommitFailedError):
            self._lease.release(delete=False)

    def _let_go(self) -> None:
        self._lease = None
        self._turns.free()

    def _terms(self) -> Terms:
        engine = self._writer.engine()
        schema = schema_of(engine, self._table)
        key = _item_key(schema, *self._key)
        self._item_key = key
        item = LockItem(engine.store, schema.table, make_key(schema, key, f"lock in {self._table}"))
        return Terms(engine, item, key, self._owner, self._rhythm, self._delete)

    def _held(self) -> Lease:
        self._check_process()
        if self._lease is None:
            raise LockLostError(
                f"The lock in {self._table} is not held by this handle. Acquire it first.", table=self._table
            )
        return self._lease

    def _stack(self) -> list[Lease]:
        """The leases of this thread's open `with` blocks."""
        if not hasattr(self._entered, "leases"):
            self._entered.leases = []
        leases: list[Lease] = self._entered.leases
        return leases

    def _refused(self, sight: Sight, who: str) -> LockNotAcquiredError:
        state, until = sight.state, None
        told = f"The lock in {self._table} is held by {who}"
        if state.held:
            until = int((self._writer.time.wall_seconds() + sight.remaining_seconds) * 1000)
            told += (
                f" until about {_clock(until)} unless it is renewed; no sign of life was seen for "
                f"{sight.unchanged_seconds:.1f} s of its lease of {state.lease_seconds:g} s"
            )
        return LockNotAcquiredError(
            f"{told}. Nothing was written.",
            retryable=True,
            table=self._table,
            key=self._item_key,
            owner=state.owner if state.held else self._owner,
            since_milliseconds=state.since_milliseconds,
            seen_seconds=sight.unchanged_seconds,
            until_milliseconds=until,
        )

    def _check_process(self) -> None:
        if self._pid != os.getpid():
            raise WrongThreadError(
                f"This lock was made in process {self._pid}, and a forked child holds nothing of it. Make a Lock in "
                "the child."
            )


def _item_key(schema: TableSchema, key: Key, sort_key: Key | None) -> dict[str, Any]:
    given = [part for part in (key, sort_key) if part is not None]
    names = schema.key_names
    if len(given) != len(names):
        raise InvalidKeyError(
            f"lock in {schema.table}: the key of this table is {' and '.join(names)}; give "
            f"{'key and sort_key' if len(names) > 1 else 'key alone'}.",
            table=schema.table,
        )
    return dict(zip(names, given, strict=True))


def _request_seconds(writer: ReliableWriter) -> float:
    """How long one request of this writer's client may be without an answer."""
    config = writer.client.meta.config
    return float(config.connect_timeout) + float(config.read_timeout)


def _default_owner(handle: str) -> str:
    return f"{socket.gethostname()}:{os.getpid()}:{handle}"


def _checked_owner(owner: object) -> str:
    if not isinstance(owner, str) or not 0 < len(owner) <= limits.LOCK_OWNER_CHARACTERS_MAX:
        raise ConfigurationError(f"owner is a name of 1 to {limits.LOCK_OWNER_CHARACTERS_MAX} characters.")
    return owner


def _bound(callback: Callback | None, lease: Lease) -> Callable[[], object] | None:
    return None if callback is None else lambda: callback(lease)


def _clock(milliseconds: int) -> str:
    return dt.datetime.fromtimestamp(milliseconds / 1000, tz=dt.UTC).strftime("%H:%M:%S UTC")
