"""Fixtures of this room: worlds on engines, and entries that stay until somebody takes them away."""

import pytest

from reliable_write import limits
from tests.world import every_world, plain_world, world

__all__ = ["every_world", "plain_world", "world"]


@pytest.fixture(autouse=True)
def finished_entries_wait(monkeypatch: pytest.MonkeyPatch) -> None:
    """A finished entry is there until its writer is closed: a second may pass between two lines of a test."""
    monkeypatch.setattr(limits, "FLUSH_LINGER_SECONDS", 3600.0)


@pytest.fixture
def finished_entries_go(monkeypatch: pytest.MonkeyPatch) -> None:
    """A finished entry is deleted at once, in the background."""
    monkeypatch.setattr(limits, "FLUSH_LINGER_SECONDS", 0.0)
