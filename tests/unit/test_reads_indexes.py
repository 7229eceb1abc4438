"""What is known of tables' local indexes: for how long, and what holds when the control plane does not answer."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

import pytest

from reliable_write import limits
from reliable_write.dynamodb import CallFailed
from reliable_write.policy import FailureKind
from reliable_write.reads import LocalIndexes
from tests.unit.fakes import ManualTime

BOTH = {
    "LocalSecondaryIndexes": [{"IndexName": "by-name"}],
    "GlobalSecondaryIndexes": [{"IndexName": "by-city"}],
}
ONE_ADDED = {"LocalSecondaryIndexes": [{"IndexName": "by-name"}, {"IndexName": "by-age"}]}
NONE: dict[str, Any] = {}
BY_NAME = frozenset({"by-name"})
BY_NAME_AND_AGE = frozenset({"by-name", "by-age"})


class Answers:
    """DescribeTable by a script."""

    def __init__(self, *answers: Mapping[str, Any] | FailureKind) -> None:
        self.left = list(answers)
        self.asked: list[tuple[str, float]] = []

    def __call__(self, table: str, seconds: float) -> Mapping[str, Any]:
        self.asked.append((table, seconds))
        answer = self.left.pop(0)
        if isinstance(answer, FailureKind):
            raise CallFailed(answer, "injected", table)
        return answer


def test_only_local_indexes_are_local() -> None:
    indexes = LocalIndexes(Answers(BOTH, NONE), ManualTime())
    assert indexes.of("people") == BY_NAME
    assert indexes.of("orders") == frozenset()


def test_each_table_is_asked_for_once_until_its_answer_is_old() -> None:
    answers, time = Answers(BOTH, NONE, ONE_ADDED), ManualTime()
    indexes = LocalIndexes(answers, time)
    for _ in range(3):
        assert indexes.of("people") == BY_NAME
        assert indexes.of("orders") == frozenset()
    time.pass_seconds(limits.SCHEMA_TTL_SECONDS - 0.1)
    assert indexes.of("people") == BY_NAME
    assert len(answers.asked) == 2
    time.pass_seconds(0.1)
    assert indexes.of("people") == BY_NAME_AND_AGE
    assert not answers.left


def test_a_known_answer_outlives_a_control_plane_that_does_not_answer() -> None:
    answers, time = Answers(BOTH, FailureKind.ACCESS_DENIED, ONE_ADDED), ManualTime()
    indexes = LocalIndexes(answers, time)
    indexes.of("people")
    time.pass_seconds(limits.SCHEMA_TTL_SECONDS)
    assert indexes.of("people") == BY_NAME
    time.pass_seconds(limits.SCHEMA_RETRY_SECONDS - 0.1)
    assert indexes.of("people") == BY_NAME
    time.pass_seconds(0.1)
    assert indexes.of("people") == BY_NAME_AND_AGE
    patient, hurried = limits.ATTEMPT_DEADLINE_SECONDS, limits.SCHEMA_REFRESH_SECONDS
    assert [seconds for _, seconds in answers.asked] == [patient, hurried, hurried]


@pytest.mark.parametrize("kind", [FailureKind.ACCESS_DENIED, FailureKind.TIMEOUT, FailureKind.THROTTLED])
def test_a_table_that_cannot_be_asked_for_is_not_guessed_at_nor_remembered(kind: FailureKind) -> None:
    indexes = LocalIndexes(Answers(kind, BOTH), ManualTime())
    with pytest.raises(CallFailed):
        indexes.of("people")
    assert indexes.of("people") == BY_NAME


@pytest.mark.parametrize("kind", [FailureKind.TABLE_MISSING, FailureKind.VALIDATION])
def test_what_is_no_table_is_not_remembered(kind: FailureKind) -> None:
    indexes = LocalIndexes(Answers(kind, BOTH), ManualTime())
    assert indexes.of("people") is None
    assert indexes.of("people") == BY_NAME


def test_a_table_that_is_gone_is_forgotten() -> None:
    time = ManualTime()
    indexes = LocalIndexes(Answers(BOTH, FailureKind.TABLE_MISSING, FailureKind.TIMEOUT), time)
    indexes.of("people")
    time.pass_seconds(limits.SCHEMA_TTL_SECONDS)
    assert indexes.of("people") is None
    with pytest.raises(CallFailed):
        indexes.of("people")
