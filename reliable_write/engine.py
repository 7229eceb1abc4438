"""The parts of one writer, put together once. Nothing here decides anything."""

from __future__ import annotations

import os
import socket
import sys
from dataclasses import dataclass

from reliable_write.audit_log import AuditLog
from reliable_write.capabilities import Capabilities
from reliable_write.clock import Deadline, HybridClock, TimeSource
from reliable_write.commit import Committer
from reliable_write.dynamodb import Calls, Schemas, Store
from reliable_write.events import Events
from reliable_write.finished import FinishedEntries
from reliable_write.first_attempt import FirstAttempt
from reliable_write.ghosts import Ghosts
from reliable_write.heartbeats import Heartbeats, MonitorCheck
from reliable_write.journal import Journal
from reliable_write.operators import Operators
from reliable_write.pending import PendingReader
from reliable_write.propagation import Propagation
from reliable_write.receipts import Receipts
from reliable_write.recovery import Recovery
from reliable_write.settings import Settings
from reliable_write.system_table import CONFIG_KEY, Installation, read_installation
from reliable_write.tombstones import Tombstones
from reliable_write.transacted import TransactionCommitter
from reliable_write.witness import Witness
from reliable_write.workers import Workers


@dataclass(frozen=True, slots=True)
class Engine:
    """Everything that commits, applies and recovers writes of one system table, in one process."""

    settings: Settings
    time: TimeSource
    events: Events
    workers: Workers
    installation: Installation
    store: Store
    schemas: Schemas
    journal: Journal
    finished: FinishedEntries
    receipts: Receipts
    capabilities: Capabilities
    committer: Committer
    transaction_committer: TransactionCommitter
    recovery: Recovery
    operators: Operators
    pending: PendingReader
    audit_log: AuditLog
    heartbeats: Heartbeats
    tombstones: Tombstones
    propagation: Propagation
    process: int

    def attempt_deadline(self) -> Deadline:
        """A deadline for one attempt, beginning now."""
        return Deadline.after(self.settings.attempt_deadline_seconds, self.time)

    def close(self) -> None:
        """Delete what is finished, end the threads. In a forked child these are the parent's, and left to it.

        Where the interpreter is being torn down nothing is sent any more, and a daemon thread that was stopped may hold
        a lock for ever: what is finished is left to a recovery.
        """
        if os.getpid() == self.process and not sys.is_finalizing():
            self.finished.close()
            self.workers.close()


def assemble(calls: Calls, settings: Settings, time: TimeSource, workers: Workers, events: Events) -> Engine:
    """Read the installation's config record and put the parts together. Raises `ConfigurationError`."""
    store = Store(calls, time)
    patience = settings.attempt_deadline_seconds
    installation = read_installation(store, settings.system_table, Deadline.after(patience, time))
    schemas = Schemas(store, time, patience, system_table=settings.system_table)
    journal = Journal(store, workers, settings.system_table, installation.shards)
    tombstones = Tombstones(store, settings.system_table, time)
    propagation = Propagation(store, tombstones, workers, time, installation.names)
    finished = FinishedEntries(
        journal, workers, time, events, call_seconds=patience, inline=settings.delete_finished_inline
    )
    heartbeats = Heartbeats(store, settings.system_table, time)
    clock = HybridClock(time)
    witness = Witness(
        store=store,
        schemas=schemas,
        tombstones=tombstones,
        ghosts=Ghosts(store, tombstones, time, installation.names),
        workers=workers,
        clock=clock,
        time=time,
        names=installation.names,
    )
    first_attempt = FirstAttempt(
        propagation=propagation,
        finished=finished,
        events=events,
        monitor_check=MonitorCheck(heartbeats, workers, time, events),
        shards=installation.shards,
    )
    committer = Committer(
        journal=journal,
        witness=witness,
        first_attempt=first_attempt,
        clock=clock,
        time=time,
        events=events,
        strict=installation.order == "strict",
    )
    transaction_committer = TransactionCommitter(
        store=store,
        journal=journal,
        witness=witness,
        first_attempt=first_attempt,
        clock=clock,
        time=time,
        events=events,
        strict=installation.order == "strict",
    )
    recovery = Recovery(
        journal=journal,
        propagation=propagation,
        workers=workers,
        time=time,
        events=events,
        owner=f"{socket.gethostname()}:{os.getpid()}",
        attempt_seconds=patience,
    )
    audit_log = AuditLog(store, settings.system_table, time)
    operators = Operators(
        journal=journal,
        store=store,
        tombstones=tombstones,
        audit_log=audit_log,
        workers=workers,
        time=time,
        names=installation.names,
        attempt_seconds=patience,
    )
    pending = PendingReader(
        journal=journal, store=store, schemas=schemas, workers=workers, time=time, names=installation.names
    )
    return Engine(
        settings=settings,
        time=time,
        events=events,
        workers=workers,
        installation=installation,
        store=store,
        schemas=schemas,
        journal=journal,
        finished=finished,
        receipts=journal.receipts,
        capabilities=Capabilities(store, settings.system_table, CONFIG_KEY, time),
        committer=committer,
        transaction_committer=transaction_committer,
        recovery=recovery,
        operators=operators,
        pending=pending,
        audit_log=audit_log,
        heartbeats=heartbeats,
        tombstones=tombstones,
        propagation=propagation,
        process=os.getpid(),
    )
