"""How an auditor is set, and what a round of it reports."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass

from reliable_write import limits

Stop = Callable[[], bool]
"""Whether to end the round early: the monitor drains, or a scheduled run is out of time."""


@dataclass(frozen=True, slots=True)
class AuditSettings:
    """How patient an auditor is. The waits are the protocol's: shorter ones are for tests on a compressed time line."""

    gc: bool = True
    """False where requests do not age (engines that check no signatures): then nothing is ever collected."""
    early_audit_after_seconds: float = limits.EARLY_AUDIT_SECONDS
    collection_wait_seconds: float = limits.COLLECTION_WAIT_SECONDS
    clock_order_seconds: float = limits.CLOCK_ORDER_COLLECTION_SECONDS
    """Added to the first wait in installations with `order="clock"`."""
    scheduled: bool = False
    """Each round is one of many short-lived processes: waits go by the wall clock and are kept in the table."""
    clock_margin_seconds: float = limits.SCHEDULED_AUDIT_MARGIN_SECONDS
    """Added to both waits of scheduled audits."""
    parallel_max: int = 8
    """Keys looked at at once, so that recovery keeps most of the threads."""
    tombstones_max: int = limits.WATCHED_TOMBSTONES_MAX
    chunk_groups_max: int = limits.WATCHED_CHUNK_GROUPS_MAX
    entries_max: int = limits.WATCHED_ENTRIES_MAX
    receipts_max: int = limits.WATCHED_RECEIPTS_MAX
    receipt_retention_seconds: float = limits.RECEIPT_RETENTION_SECONDS
    """How long after its write a receipt is kept at least."""
    receipt_margin_seconds: float = limits.SCHEDULED_AUDIT_MARGIN_SECONDS
    """Added, because another machine's wall clock told when the write was."""
    collections_max: int = limits.COLLECTIONS_PER_AUDIT_MAX
    """Tombstones collected in one round."""
    table_troubles_max: int = 3
    """After so many failures of one table in one round, its other keys wait for the next."""
    table_refusals_max: int = 50
    """After so many keys of one table in a row that were refused, each for itself, only a few more are tried."""


@dataclass(slots=True)
class AuditReport:
    """What one round saw and did."""

    complete: bool = False
    """Whether the whole system table was seen. Only then is anything collected."""
    reason: str = ""
    """Why it was not."""
    tombstones: int = 0
    tombstones_unwatched: int = 0
    """Over `AuditSettings.tombstones_max`: neither audited nor collected yet."""
    tombstones_unreadable: int = 0
    held_back: int = 0
    """Tombstones whose waits an older entry in the journal began anew."""
    audited: int = 0
    ghosts_removed: int = 0
    foreign: int = 0
    troubles: int = 0
    """Keys that could not be looked at, or not collected; each is tried again next time."""
    skipped: int = 0
    """Keys not even tried: their table failed too often in this round, or the round was ended."""
    tombstones_collected: int = 0
    chunk_groups: int = 0
    chunks_collected: int = 0
    receipts_collected: int = 0
    seconds: float = 0.0
