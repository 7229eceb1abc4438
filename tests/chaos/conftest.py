"""Fixtures of this room: worlds on engines."""

from tests.world import every_world, plain_world, wide_plain_world, wide_world, world

__all__ = ["every_world", "plain_world", "wide_plain_world", "wide_world", "world"]
