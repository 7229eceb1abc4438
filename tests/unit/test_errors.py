from __future__ import annotations

import inspect
import pickle
import re
import threading
from typing import Any

import boto3
import pytest

import reliable_write
from reliable_write import errors
from reliable_write.dynamodb.failures import CONDITION_CODE, KIND_OF_CODE
from reliable_write.errors import OperationFailure, Outcome, ReliableWriteError

CLASSES = [
    value
    for value in vars(errors).values()
    if inspect.isclass(value) and issubclass(value, ReliableWriteError) and value is not ReliableWriteError
]
OPERATIONS_WE_USE = (
    "GetItem",
    "PutItem",
    "UpdateItem",
    "DeleteItem",
    "Query",
    "BatchGetItem",
    "BatchWriteItem",
    "DescribeTable",
    "CreateTable",
    "TransactWriteItems",
)


def _made(kind: type[ReliableWriteError]) -> ReliableWriteError:
    return kind("what happened", write_id="an-id")


@pytest.mark.parametrize("kind", [*CLASSES, ReliableWriteError], ids=lambda kind: kind.__name__)
def test_every_error_is_exported(kind: type[ReliableWriteError]) -> None:
    assert getattr(reliable_write, kind.__name__) is kind
    assert kind.__name__ in reliable_write.__all__


def test_all_is_sorted_and_every_name_in_it_can_be_had() -> None:
    assert reliable_write.__all__ == sorted(set(reliable_write.__all__))
    for name in reliable_write.__all__:
        assert getattr(reliable_write, name) is not None


@pytest.mark.parametrize("kind", [*CLASSES, ReliableWriteError], ids=lambda kind: kind.__name__)
@pytest.mark.parametrize("protocol", range(2, pickle.HIGHEST_PROTOCOL + 1))
def test_every_error_crosses_a_process_pool_with_its_facts(kind: type[ReliableWriteError], protocol: int) -> None:
    facts: dict[str, Any] = {
        "write_id": "an-id",
        "outcome": Outcome.WILL_BE_WRITTEN,
        "retryable": True,
        "failures": (OperationFailure("operations[3].items[4]", "orders", "access denied", permanent=True),),
        "needs_operator": True,
        "table": "orders",
        "path": "lines[3].price",
    }
    error = kind("what happened", **facts)
    again = pickle.loads(pickle.dumps(error, protocol))  # noqa: S301 - our own
    assert type(again) is kind
    assert str(again) == "what happened"
    assert again.message == "what happened"
    assert {name: getattr(again, name) for name in facts} == facts


def test_the_scope_of_an_unknown_commit_stays_in_its_process() -> None:
    error = errors.CommitUnknownError("what happened", write_id="an-id", scope=threading.Lock())
    again = pickle.loads(pickle.dumps(error))  # noqa: S301 - our own
    assert (again.write_id, again.scope) == ("an-id", None)


@pytest.mark.parametrize("kind", [*CLASSES, ReliableWriteError], ids=lambda kind: kind.__name__)
def test_every_error_says_what_holds(kind: type[ReliableWriteError]) -> None:
    unusual = {
        "CommitUnknownError": Outcome.UNKNOWN,
        "PropagationPendingError": Outcome.WILL_BE_WRITTEN,
        "CounterUnknownError": Outcome.UNKNOWN,
        "EntryNotFoundError": Outcome.UNKNOWN,
        "UploadIncompleteError": Outcome.UNKNOWN,
        "TooLateError": Outcome.WILL_BE_WRITTEN,
    }
    assert _made(kind).outcome is unusual.get(kind.__name__, Outcome.NOT_WRITTEN)
    assert _made(kind).retryable is (kind.__name__ in {"CommitUnknownError", "TooLateError"})


def test_the_tree_drawn_in_the_docstring_is_the_real_one() -> None:
    drawn = dict(_drawn(errors.__doc__ or ""))
    real = {kind.__name__: kind.__bases__[0].__name__ for kind in CLASSES}
    assert drawn == real


def test_the_outcomes_drawn_in_the_docstring_are_the_real_ones() -> None:
    told = re.findall(r"[|`]- (\w+Error) +(NOT_WRITTEN|UNKNOWN|WILL_BE_WRITTEN|WRITTEN)\b", errors.__doc__ or "")
    assert len(told) == 7
    for name, outcome in told:
        assert getattr(errors, name).outcome == outcome


def test_misuse_errors_are_runtime_errors() -> None:
    drawn = re.findall(r"(\w+Error) +\(RuntimeError\)", errors.__doc__ or "")
    assert {kind.__name__ for kind in CLASSES if issubclass(kind, RuntimeError)} == set(drawn)
    assert len(drawn) == 3


def _drawn(text: str) -> list[tuple[str, str]]:
    """Class and parent, by how far each name is indented in the drawing."""
    pairs: list[tuple[str, str]] = []
    open_parents: list[tuple[int, str]] = []
    for line in text.splitlines():
        found = re.search(r"[|`]- (\w+Error)\b", line) or re.match(r" +(ReliableWriteError)\(", line)
        if not found:
            continue
        column, name = found.start(1), found.group(1)
        while open_parents and open_parents[-1][0] >= column:
            open_parents.pop()
        if open_parents:
            pairs.append((name, open_parents[-1][1]))
        open_parents.append((column, name))
    return pairs


def _modelled_codes() -> set[str]:
    client = boto3.client("dynamodb", region_name="us-east-1", aws_access_key_id="none", aws_secret_access_key="none")
    model = client.meta.service_model
    codes = {shape.name for name in OPERATIONS_WE_USE for shape in model.operation_model(name).error_shapes}
    client.close()
    return codes


def test_every_error_code_botocore_knows_for_our_calls_has_a_meaning() -> None:
    codes = _modelled_codes()
    assert len(codes) > 10, "the walk found next to nothing"
    assert codes - KIND_OF_CODE.keys() == {CONDITION_CODE}
