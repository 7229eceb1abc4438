"""Steps with an idempotency key: scopes, whose receipt lets the same key count once, from any process."""

from __future__ import annotations

import itertools

from reliable_write.counters.place import Place
from reliable_write.counters.steps import Bounds, limit_error
from reliable_write.errors import (
    CommitUnknownError,
    ConditionFailedError,
    InvalidExpressionError,
)
from reliable_write.first_attempt import Receipt
from reliable_write.policy import retry_pause_seconds
from reliable_write.scope import ReliableWriteScope
from reliable_write.values import decode_item, encode_item


def add_keyed(place: Place, n: int, initial: int, bounds: Bounds, key: str) -> None:
    """Count once for this key. Raises `CounterLimitError`, `CounterTypeError`, and as `ReliableWriteScope.commit`.

    The same key must come with the same step: with the same n, initial value and bound.
    """
    with ReliableWriteScope(place.writer, idempotency_key=key, independent=True) as scope:
        scope.update_item(
            place.table,
            Key=place.python_key,
            UpdateExpression="SET #v = if_not_exists(#v, :initial) + :n",
            ConditionExpression=bounds.condition(initial, n),
            ExpressionAttributeNames={"#v": place.attribute},
            ExpressionAttributeValues={":initial": initial, ":n": n, **decode_item(bounds.values(n))},
        )
        try:
            _commit(scope, place)
        except ConditionFailedError as refused:
            item = encode_item(refused.failures[0].item or {}, str(place))
            raise limit_error(place, bounds, n, place.value_in(item, initial)) from refused
        except InvalidExpressionError:
            place.value_in(place.read(), initial)  # mostly it is no number: the error for that
            raise


def _commit(scope: ReliableWriteScope, place: Place) -> Receipt:
    """Where the outcome is unknown the same scope again, until the attempt is over."""
    engine = place.engine
    deadline = engine.attempt_deadline()
    for tries in itertools.count(1):
        try:
            return scope.commit()
        except CommitUnknownError as unknown:
            seconds = retry_pause_seconds(tries, engine.time)
            if not unknown.retryable or seconds >= deadline.remaining_seconds():
                raise
            engine.time.sleep(seconds)
    raise AssertionError
