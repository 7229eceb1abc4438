"""How a shared record is made and how it is deleted: intents in which its version goes on, whatever lies there."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import replace
from typing import Any

from reliable_write.at_commit import Given
from reliable_write.clock import TimeSource
from reliable_write.intents import Intent, Writable
from reliable_write.records.layout import VersionField
from reliable_write.records.marks import mark
from reliable_write.records.model import Record
from reliable_write.records.versions import next_version


class Kept:
    """A writable as it is, and what it wrote."""

    def __init__(self, writable: Writable) -> None:
        self._writable = writable
        self.content: Mapping[str, Any] = {}

    def __reliable_put__(self, time: TimeSource) -> Intent:
        """See `Writable`."""
        intent = self._writable.__reliable_put__(time)
        self.content = intent.content
        return intent

    def __reliable_delete__(self) -> Intent:
        """See `Writable`."""
        return self._writable.__reliable_delete__()


class Deletion:
    """A record to be replaced by a mark: what a scope takes for it is a put, under the condition of its delete."""

    def __init__(self, record: Record, version: VersionField, kept_seconds: float) -> None:
        self._record = record
        self._version = version
        self._kept_seconds = kept_seconds

    def __reliable_put__(self, time: TimeSource) -> Intent:
        """See `Writable`. Asks the record's constraints, as its delete would."""
        intent = self._record.__reliable_delete__()
        local = getattr(self._record, self._version.field)
        following = next_version(self._version, local, time)
        raised = {self._version.attribute: type(self._record).__layout__.stored(self._version.field, following)}
        content = {**intent.content, **raised, **mark(time.wall_seconds() + self._kept_seconds)}
        return replace(intent, content=content)

    def __reliable_delete__(self) -> Intent:
        """See `Writable`."""
        return self._record.__reliable_delete__()


class Creation:
    """A record to be made where there is none, or over a mark, whose version it has then."""

    def __init__(self, record: Record, *, over_mark: bool) -> None:
        self._record = record
        self._over_mark = over_mark

    def __reliable_put__(self, time: TimeSource) -> Intent:
        """See `Writable`."""
        intent = self._record.__reliable_put__(time)
        if self._over_mark:
            return intent
        # The record's own condition takes an item without a version for one that was never saved; it is no absence.
        key = type(self._record).__layout__.hash_key.attribute
        given = intent.given
        absent = Given(
            f"({given.condition}) AND attribute_not_exists(#key)", {**(given.names or {}), "#key": key}, given.values
        )
        return replace(intent, given=absent)

    def __reliable_delete__(self) -> Intent:
        """See `Writable`."""
        return self._record.__reliable_delete__()
