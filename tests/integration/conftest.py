"""Fixtures of this room: worlds on engines."""

from tests.world import every_world, plain_world, world

__all__ = ["every_world", "plain_world", "world"]
