"""The changes there are of a counter's value: each an update, a condition of its own, and what its refusal means."""

from __future__ import annotations

from abc import ABC, abstractmethod
from collections.abc import Callable
from dataclasses import dataclass
from typing import Final

from reliable_write import limits
from reliable_write.counters.place import Place, check_whole
from reliable_write.errors import CounterLimitError, CounterOutOfSyncError, CounterTypeError, ReliableWriteError
from reliable_write.values import AttributeValue, WireItem

TIMESTAMP: Final = "timestamp"
"""The attribute in which a `Counter` keeps when it was changed last."""


class Step(ABC):
    """One change, before it has a slot. `#v` is the counter's attribute, `#result` the slot's."""

    place: Place

    @property
    @abstractmethod
    def update(self) -> str:
        """What is SET, besides the slot's stamp."""

    @property
    @abstractmethod
    def condition(self) -> str | None:
        """Beside that of the slot."""

    @property
    @abstractmethod
    def values(self) -> WireItem:
        """Of the placeholders in both."""

    @property
    def names(self) -> dict[str, str]:
        """Of further placeholders."""
        return {}

    @abstractmethod
    def objection(self, item: WireItem) -> ReliableWriteError | None:
        """Why this item refuses it; None where it does not."""

    @abstractmethod
    def result(self, item: WireItem, result_name: str) -> int:
        """The value after it, from an item in whose slot it stands. Raises `CounterTypeError`."""

    def landed(self, value: int) -> None:  # noqa: B027 - most steps have nobody to tell
        """Called once it is known to have taken effect, with the value after it."""


@dataclass(frozen=True, slots=True)
class Bounds:
    """What a counter may not go below or above. A step up looks at the maximum only, a step down at the minimum."""

    minimum: int | None = None
    maximum: int | None = None

    def __post_init__(self) -> None:
        for name, bound in (("minimum", self.minimum), ("maximum", self.maximum)):
            if bound is not None:
                check_whole(name, bound, limits.COUNTER_VALUE_MAX)
        if self.minimum is not None and self.maximum is not None and self.minimum > self.maximum:
            raise ValueError(f"minimum {self.minimum} is above maximum {self.maximum}.")

    def of(self, n: int) -> int | None:
        """The bound that a step by n may meet."""
        return self.maximum if n > 0 else self.minimum

    def allow(self, value: int, n: int) -> bool:
        """Whether a step by n may start from this value."""
        bound = self.of(n)
        return bound is None or (value + n <= bound if n > 0 else value + n >= bound)

    def hold(self, value: int) -> bool:
        """Whether this value is within both."""
        return (self.minimum is None or value >= self.minimum) and (self.maximum is None or value <= self.maximum)

    def condition(self, initial: int, n: int) -> str | None:
        """The same as a condition on `#v` with `:limit`; an expression cannot add, so `:limit` is where n may start."""
        if self.of(n) is None:
            return None
        within = "#v <= :limit" if n > 0 else "#v >= :limit"
        return f"(attribute_not_exists(#v) OR {within})" if self.allow(initial, n) else within

    def values(self, n: int) -> WireItem:
        """Of the condition."""
        bound = self.of(n)
        return {} if bound is None else {":limit": number(bound - n)}


@dataclass(frozen=True, slots=True)
class Add(Step):
    """Raise or lower what is there, whatever it is."""

    place: Place
    n: int
    initial: int
    bounds: Bounds

    @property
    def update(self) -> str:
        """See `Step.update`."""
        raised = "if_not_exists(#v, :initial) + :n"
        return f"#v = {raised}, #result = {raised}"

    @property
    def condition(self) -> str | None:
        """See `Step.condition`."""
        return self.bounds.condition(self.initial, self.n)

    @property
    def values(self) -> WireItem:
        """See `Step.values`."""
        return {":initial": number(self.initial), ":n": number(self.n), **self.bounds.values(self.n)}

    def objection(self, item: WireItem) -> ReliableWriteError | None:
        """See `Step.objection`."""
        try:
            value = self.place.value_in(item, self.initial)
        except CounterTypeError as wrong:
            return wrong
        return None if self.bounds.allow(value, self.n) else limit_error(self.place, self.bounds, self.n, value)

    def result(self, item: WireItem, result_name: str) -> int:
        """See `Step.result`: others may have moved on, so it stands in the slot."""
        return self.place.number(item[result_name])


@dataclass(frozen=True, slots=True)
class Reset(Step):
    """Set the value, whatever is there."""

    place: Place
    to: int

    @property
    def update(self) -> str:
        """See `Step.update`."""
        return "#v = :to"

    @property
    def condition(self) -> None:
        """See `Step.condition`."""

    @property
    def values(self) -> WireItem:
        """See `Step.values`."""
        return {":to": number(self.to)}

    def objection(self, _item: WireItem) -> None:
        """See `Step.objection`: none."""

    def result(self, _item: WireItem, _result_name: str) -> int:
        """See `Step.result`."""
        return self.to


@dataclass(frozen=True, slots=True)
class Move(Step):
    """Go from the value that was seen to another one, unless somebody else has moved it."""

    place: Place
    seen: int
    to: int
    timestamp: str
    on_landed: Callable[[int, str], None]
    on_refused: Callable[[WireItem], None]

    @property
    def update(self) -> str:
        """See `Step.update`."""
        return "#v = :to, #timestamp = :timestamp"

    @property
    def condition(self) -> str:
        """See `Step.condition`. Numbers compare as numbers, however they are spelled."""
        return "#v = :seen"

    @property
    def values(self) -> WireItem:
        """See `Step.values`."""
        return {":to": number(self.to), ":seen": number(self.seen), ":timestamp": {"S": self.timestamp}}

    @property
    def names(self) -> dict[str, str]:
        """See `Step.names`."""
        return {"#timestamp": TIMESTAMP}

    def objection(self, item: WireItem) -> ReliableWriteError | None:
        """See `Step.objection`; the handle then shows what is there."""
        found = item.get(self.place.attribute)
        if found is None:
            actual = None
        else:
            try:
                actual = self.place.number(found)
            except CounterTypeError as wrong:
                return wrong
        if actual == self.seen:
            return None
        self.on_refused(item)
        gone = "is gone" if actual is None else "was changed by somebody else"
        return CounterOutOfSyncError(
            f"{self.place} {gone} since this handle saw it. Nothing was written; the handle shows what is there.",
            **self.place.facts,
            expected=self.seen,
            actual=actual,
        )

    def result(self, _item: WireItem, _result_name: str) -> int:
        """See `Step.result`."""
        return self.to

    def landed(self, value: int) -> None:
        """See `Step.landed`."""
        self.on_landed(value, self.timestamp)


def number(value: int) -> AttributeValue:
    """As the wire has it."""
    return {"N": str(value)}


def limit_error(place: Place, bounds: Bounds, n: int, value: int) -> CounterLimitError:
    """The error for a step by n that the value does not allow."""
    bound = "above the maximum" if n > 0 else "below the minimum"
    return CounterLimitError(
        f"{place}: the step would take it {bound}. Nothing was written.",
        **place.facts,
        value=value,
        limit=bounds.of(n),
    )
