"""What happened in one life, in the order in which the tables saw it: what the checkers judge."""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Mapping
from dataclasses import dataclass, field

from reliable_write.errors import Outcome

Place = tuple[str, str]
"""A table, and a key in it."""


@dataclass(frozen=True)
class Did:
    """One operation of a scope. What it leaves in its item is an attribute with the name of the scope."""

    kind: str
    """put, delete, update, check, put at commit, delete at commit."""
    place: Place
    condition: str | None = None

    @property
    def journalled(self) -> bool:
        """Whether it is propagated after the commit point."""
        return self.kind in ("put", "delete")

    @property
    def writes(self) -> bool:
        """Whether it changes anything."""
        return self.kind != "check"


@dataclass
class Write:
    """One scope, and what its caller was told."""

    name: str
    deeds: tuple[Did, ...]
    begun: int
    write_id: str | None = None
    mark: str | None = None
    """Which scope it is, in receipts; None where its commit point needs none."""
    outcome: Outcome | None = None
    """The last word; None while nothing was said."""
    told: int | None = None
    """When it was first acknowledged."""
    duplicate: bool = False
    stamp: str | None = None
    """As the receipt told."""


@dataclass(frozen=True)
class Landed:
    """A commit point, as the tables saw it."""

    step: int
    write_id: str
    stamp: str
    mark: str | None


@dataclass(frozen=True)
class Change:
    """An item of the application as it was left by one request; None: absent."""

    step: int
    place: Place
    stamp: str | None
    """Under which it was written or removed."""
    full: str | None
    update: str | None
    marks: Mapping[str, int] | None

    @property
    def last(self) -> str:
        """The greater of its stamps."""
        return max(self.full or "", self.update or "")


@dataclass(frozen=True)
class Tomb:
    """A tombstone put, or collected."""

    step: int
    place: Place
    stamp: str
    collected: bool = False


@dataclass(frozen=True)
class LatePut:
    """A put that a monitor applied, and the moment at which the same monitor took its entry for finished."""

    stamp: str
    place: Place
    step: int
    finished: int


@dataclass
class History:
    """All of it."""

    writes: list[Write] = field(default_factory=list)
    landed: list[Landed] = field(default_factory=list)
    changes: dict[Place, list[Change]] = field(default_factory=lambda: defaultdict(list))
    tombs: dict[Place, list[Tomb]] = field(default_factory=lambda: defaultdict(list))
    discarded: set[str] = field(default_factory=set)
    """Stamps of entries that an operator gave up, or may have."""
    born: dict[str, int] = field(default_factory=dict)
    """When each stamp was made, by its random part."""
    set_aside: set[str] = field(default_factory=set)
    """Stamps of entries that are quarantined in the end."""
    pending: set[str] = field(default_factory=set)
    """Stamps of entries that are still pending in the end."""
    forgotten: dict[str, list[int]] = field(default_factory=lambda: defaultdict(list))
    """When the receipts of a write id went that were old enough to go: later it is another write's."""
    late_puts: list[LatePut] = field(default_factory=list)
    """Noted in narrow lives only."""

    def born_at(self, stamp: str) -> int:
        """The step at which a stamp was taken."""
        return self.born.get(stamp[16:], 0)
