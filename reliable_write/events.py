"""What the library says while it works: ids, tables and counts, never item values.

Each event goes to structlog under the name in `Event`. Fields are kept to what an operator can act on.
"""

from __future__ import annotations

import contextlib
import enum
import logging
from typing import Any

import structlog


class Event(enum.StrEnum):
    """Names of events; a name never changes its meaning."""

    WRITE_COMMITTED = "write_committed"
    WRITE_APPLIED = "write_applied"
    WRITE_PENDING = "write_pending"
    WRITE_REFUSED = "write_refused"
    WRITE_UNKNOWN = "write_unknown"
    SCOPE_DROPPED = "scope_dropped"
    SCOPE_ABANDONED = "scope_abandoned"
    FLUSH_FAILED = "finished_entries_not_deleted"
    ENTRY_RECOVERED = "entry_recovered"
    ENTRY_STILL_PENDING = "entry_still_pending"
    ENTRY_QUARANTINED = "entry_quarantined"
    ENTRY_UNREADABLE = "entry_unreadable"
    GHOST_REMOVED = "ghost_removed"
    AUDIT_INCOMPLETE = "audit_incomplete"
    AUDIT_SKIPPED_TABLE = "audit_skipped_table"
    AUDIT_FOREIGN_STAMP = "audit_foreign_stamp"
    TOMBSTONE_UNREADABLE = "tombstone_unreadable"
    COLLECTION_ON = "collection_on"
    COLLECTION_OFF = "collection_off"
    COLLECTION_HELD_BACK = "collection_held_back"
    COLLECTION_OVERFULL = "collection_overfull"
    COLLECTED = "collected"
    NO_MONITOR = "no_monitor"
    LOCK_TAKEN_OVER = "lock_taken_over"
    LOCK_IN_DANGER = "lock_in_danger"
    LOCK_LOST = "lock_lost"
    LOCK_NOT_RELEASED = "lock_not_released"
    LOCK_CALLBACK_FAILED = "lock_callback_failed"
    SHARD_UNREAD = "shard_not_read"
    TABLE_HELD_BACK = "table_held_back"
    TABLE_TAKEN_AGAIN = "table_taken_again"
    MONITOR_STARTED = "monitor_started"
    MONITOR_DRAINED = "monitor_drained"
    MONITOR_HINDERED = "monitor_hindered"
    MONITOR_FAILED = "monitor_failed"


def default_logger() -> Any:
    """Structlog as the application configured it; else the standard library's logger `reliable_write`.

    Structlog that nobody configured prints everything to standard output, which is no place for a library to talk.
    """
    if structlog.is_configured():
        return structlog.get_logger("reliable_write")
    return structlog.wrap_logger(
        logging.getLogger("reliable_write"),
        wrapper_class=structlog.stdlib.BoundLogger,
        processors=[
            structlog.stdlib.filter_by_level,
            structlog.processors.KeyValueRenderer(key_order=["event"]),
        ],
    )


class Events:
    """Emits events to a structlog logger; the level says who should care.

    debug: how it works; info: an operator may want to know; warning: somebody should look; error: somebody must act.
    """

    def __init__(self, logger: Any = None) -> None:
        self._logger = logger if logger is not None else default_logger()

    def debug(self, event: Event, **facts: object) -> None:
        """How it works."""
        self._tell("debug", event, facts)

    def info(self, event: Event, **facts: object) -> None:
        """An operator may want to know."""
        self._tell("info", event, facts)

    def warning(self, event: Event, **facts: object) -> None:
        """Somebody should look."""
        self._tell("warning", event, facts)

    def error(self, event: Event, **facts: object) -> None:
        """Somebody must act."""
        self._tell("error", event, facts)

    def _tell(self, level: str, event: Event, facts: dict[str, object]) -> None:
        """A logger that fails (a closed stdout, a handler's bug) must not decide what becomes of a committed write.

        structlog's loggers are made when a level is looked up, so that may fail already.
        """
        with contextlib.suppress(Exception):
            getattr(self._logger, level)(event.value, **facts)
