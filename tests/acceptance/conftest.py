"""Fixtures of this room: worlds on engines."""

from tests.world import every_world, world

__all__ = ["every_world", "world"]
