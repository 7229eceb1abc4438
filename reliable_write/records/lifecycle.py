"""What the handle of a shared record hands to a scope: writes under one more condition, and the mark of a delete."""

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
from reliable_write.records.places import Place
from reliable_write.records.versions import next_version


class Expecting:
    """A writable, where its item is there, or is not.

    The condition of a record that was never saved leaves that open: it takes an absent item, and one without a version.
    """

    def __init__(self, writable: Writable, place: Place[Any], *, there: bool) -> None:
        self._writable = writable
        self._place = place
        self._there = there
        self.content: Mapping[str, Any] = {}
        """What was recorded last."""

    def __reliable_put__(self, time: TimeSource) -> Intent:
        """See `Writable`. Raises `InvalidKeyError` where a constraint has changed the key."""
        intent = self._writable.__reliable_put__(time)
        self._place.check_content(intent.content)
        self.content = intent.content
        return replace(intent, given=self._narrowed(intent.given))

    def __reliable_delete__(self) -> Intent:
        """See `Writable`."""
        intent = self._writable.__reliable_delete__()
        return replace(intent, given=self._narrowed(intent.given))

    def _narrowed(self, given: Given) -> Given:
        presence = "attribute_exists" if self._there else "attribute_not_exists"
        names = {**(given.names or {}), "#key": self._place.hash_attribute}
        return replace(given, condition=f"({given.condition}) AND {presence}(#key)", names=names)


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
