"""How a lease, its heartbeat and its safe time fit together: checked when the lock is made, with the numbers."""

from __future__ import annotations

import math
from dataclasses import dataclass

from reliable_write import limits
from reliable_write.errors import ConfigurationError


@dataclass(frozen=True, slots=True)
class Rhythm:
    """The spans of one lock, in seconds."""

    lease_seconds: float
    heartbeat_seconds: float
    """Between renewals."""
    safe_seconds: float
    """Without a renewal for longer the lease is in danger."""
    request_seconds: float
    """The longest that one request may keep us without an answer."""

    @property
    def last_request_seconds(self) -> float:
        """Age of a lease after which no renewal is sent: its answer could come when the lease has run out."""
        return self.lease_seconds - self.request_seconds


def make_rhythm(
    lease_seconds: float, heartbeat_seconds: float | None, safe_seconds: float | None, request_seconds: float
) -> Rhythm:
    """Checked, with defaults. Raises `ConfigurationError` for spans that do not fit."""
    if not 0 < lease_seconds < math.inf:
        raise ConfigurationError(f"lease_seconds is {lease_seconds}; a lease is a span of time above 0.")
    beat = lease_seconds / limits.LOCK_HEARTBEATS_PER_LEASE if heartbeat_seconds is None else heartbeat_seconds
    if not 0 < beat <= lease_seconds / 2:
        raise ConfigurationError(
            f"heartbeat_seconds is {beat:g} with a lease of {lease_seconds:g} s; it takes more than 0 and at most half "
            "a lease, so that one heartbeat may fail."
        )
    if beat + request_seconds >= lease_seconds:
        raise ConfigurationError(
            f"A lease of {lease_seconds:g} s with a heartbeat each {beat:g} s would not outlast one lost answer, for "
            f"which a request waits up to {request_seconds:g} s (connect and read timeout). Make lease_seconds longer, "
            "or the timeouts shorter: Settings(connect_timeout_seconds=..., read_timeout_seconds=...), or those of the "
            "client the writer was given."
        )
    safe = max(beat, lease_seconds * limits.LOCK_SAFE_SHARE) if safe_seconds is None else safe_seconds
    if not beat <= safe <= lease_seconds:
        raise ConfigurationError(
            f"safe_seconds is {safe:g}; it lies between the heartbeat ({beat:g} s) and the lease ({lease_seconds:g} s)."
        )
    return Rhythm(lease_seconds, beat, safe, request_seconds)
