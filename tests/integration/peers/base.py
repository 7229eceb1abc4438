"""What the tests of interop ask of another library's models, and what all of these share."""

from __future__ import annotations

import enum
from abc import ABC, abstractmethod
from collections.abc import Mapping
from datetime import UTC, datetime
from typing import Any, ClassVar

from boto3.dynamodb.types import TypeDeserializer

from reliable_write import ReliableWriteScope
from reliable_write.testing.engines import Engine

MOMENT = datetime(2026, 1, 2, 3, 4, 5, 678, tzinfo=UTC)
BYTES = b"\x00\xff\x10"


class Colour(enum.Enum):
    RED = "red"


def python_values(wire: Mapping[str, Any]) -> dict[str, Any]:
    """Attribute values as the wire has them, as Python values."""
    deserialize = TypeDeserializer().deserialize
    return {name: deserialize(value) for name, value in wire.items()}


class Peer(ABC):
    """One library's models on two tables. Instances are made anew for each key."""

    name: ClassVar[str]

    def __init__(self, engine: Engine, one: str, two: str) -> None:
        self.engine = engine
        self.one = one
        self.two = two

    @abstractmethod
    def full(self, key: str) -> Any:
        """An instance for table one, with every attribute type there is."""

    @abstractmethod
    def small(self, key: str, text: str, version: int | None = None) -> Any:
        """An instance for table two: a text, and the version it was read with."""

    @abstractmethod
    def put(self, scope: ReliableWriteScope, instance: Any, *, checked: bool = False) -> None:
        """Record a put. `checked`: only if the stored version is the one it was read with; the next one is written."""

    @abstractmethod
    def delete(self, scope: ReliableWriteScope, instance: Any) -> None:
        """Record an unconditional delete of a small instance."""

    @abstractmethod
    def load(self, instance: Any) -> Any:
        """The same item, strongly read by the library; None where there is none."""

    @abstractmethod
    def save(self, instance: Any) -> None:
        """The library's own way to write it, past all scopes."""

    @abstractmethod
    def erase(self, instance: Any) -> None:
        """The library's own way to delete it."""

    @abstractmethod
    def fields(self, instance: Any) -> dict[str, Any]:
        """All attributes, comparable."""
