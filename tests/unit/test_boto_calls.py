"""`Calls` over boto3 clients, answered before anything leaves: no engine, no socket."""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any

import boto3
import pytest
from botocore.config import Config
from botocore.exceptions import (
    ClientError,
    ConnectionClosedError,
    ConnectTimeoutError,
    EndpointConnectionError,
    HTTPClientError,
    NoCredentialsError,
    ParamValidationError,
    ReadTimeoutError,
)

from reliable_write.clock import Deadline
from reliable_write.dynamodb import BotoCalls, CallFailed, ConditionRefused
from reliable_write.dynamodb.boto import speaks_python_values
from reliable_write.dynamodb.failures import translate
from reliable_write.errors import ConfigurationError
from reliable_write.policy import FailureKind
from reliable_write.testing.faults import FaultPlan, answer, lose_answer, throttle
from tests.unit.fakes import ManualTime

SESSION: dict[str, Any] = {"region_name": "us-east-1", "aws_access_key_id": "none", "aws_secret_access_key": "none"}
NOWHERE = "http://127.0.0.1:1"
GET: dict[str, Any] = {"TableName": "orders", "Key": {"id": {"S": "a"}}}


@pytest.fixture
def client() -> Iterator[Any]:
    made = boto3.session.Session(**SESSION).client("dynamodb", endpoint_url=NOWHERE)
    yield made
    made.close()


@pytest.fixture
def resource() -> Iterator[Any]:
    made = boto3.session.Session(**SESSION).resource("dynamodb", endpoint_url=NOWHERE)
    yield made
    made.meta.client.close()


def soon() -> Deadline:
    return Deadline.after(8, ManualTime())


# --- what a failure means -----------------------------------------------------------------------------------------


def refused(code: str, status: int = 400, **more: Any) -> ClientError:
    response: Any = {"Error": {"Code": code}, "ResponseMetadata": {"HTTPStatusCode": status}, **more}
    return ClientError(response, "PutItem")


@pytest.mark.parametrize(
    ("error", "kind", "ambiguous"),
    [
        (refused("ThrottlingException"), FailureKind.THROTTLED, False),
        (refused("TransactionConflictException"), FailureKind.CONFLICT, False),
        (refused("InternalServerError", 500), FailureKind.SERVER, True),
        (refused("ServiceUnavailable", 503), FailureKind.SERVER, True),
        (refused("", 502), FailureKind.SERVER, True),
        (refused("SomethingNew", 500), FailureKind.SERVER, True),
        (refused("SomethingNew", 400), FailureKind.UNCLASSIFIED, False),
        (refused("SomethingNew", 302), FailureKind.UNCLASSIFIED, True),
        (refused("ExpiredTokenException"), FailureKind.CREDENTIALS, False),
        (refused("AccessDeniedException"), FailureKind.ACCESS_DENIED, False),
        (refused("ResourceNotFoundException"), FailureKind.TABLE_MISSING, False),
        (refused("ValidationException"), FailureKind.VALIDATION, False),
        (EndpointConnectionError(endpoint_url="x"), FailureKind.UNREACHABLE, False),
        (ConnectTimeoutError(endpoint_url="x"), FailureKind.UNREACHABLE, False),
        (ReadTimeoutError(endpoint_url="x"), FailureKind.TIMEOUT, True),
        (ConnectionClosedError(endpoint_url="x"), FailureKind.TIMEOUT, True),
        (HTTPClientError(error="x"), FailureKind.TIMEOUT, True),
        (ConnectionResetError(), FailureKind.TIMEOUT, True),
        (NoCredentialsError(), FailureKind.CREDENTIALS, False),
        (ParamValidationError(report="x"), FailureKind.VALIDATION, False),
        (ZeroDivisionError(), FailureKind.UNCLASSIFIED, True),
    ],
    ids=repr,
)
def test_every_foreign_error_has_one_meaning(error: Exception, kind: FailureKind, ambiguous: bool) -> None:
    ours = translate(error, "orders")
    assert isinstance(ours, CallFailed)
    assert (ours.kind, ours.ambiguous, ours.table) == (kind, ambiguous, "orders")
    assert ours.__cause__ is error


def test_a_refused_condition_brings_the_item() -> None:
    ours = translate(refused("ConditionalCheckFailedException", Item=GET["Key"]), "orders")
    assert isinstance(ours, ConditionRefused)
    assert ours.found == GET["Key"]


# --- one request, once --------------------------------------------------------------------------------------------


@pytest.mark.parametrize("mode", ["legacy", "standard"])
@pytest.mark.parametrize(
    "fault", [throttle, lose_answer, answer("InternalServerError", 500)], ids=["throttled", "lost", "500"]
)
def test_the_retries_of_a_given_client_are_off_for_our_calls_alone(
    mode: Any, fault: Any, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("time.sleep", lambda _: None)  # botocore's own pauses
    config = Config(retries={"total_max_attempts": 3, "mode": mode})
    client = boto3.session.Session(**SESSION).client("dynamodb", endpoint_url=NOWHERE, config=config)
    calls = BotoCalls(client)
    with FaultPlan(client).on("GetItem", fault) as plan:
        with pytest.raises(CallFailed):
            calls.send("get_item", GET, soon())
        assert len(plan.calls) == 1
        with pytest.raises((ClientError, ReadTimeoutError)):
            client.get_item(**GET)
        assert len(plan.calls) == 4, "the application's own call keeps its retries"
    client.close()


def test_past_its_deadline_nothing_is_sent(client: Any) -> None:
    time = ManualTime()
    deadline = Deadline.after(8, time)
    time.elapsed = 8
    with FaultPlan(client) as plan, pytest.raises(CallFailed) as caught:
        BotoCalls(client).send("get_item", GET, deadline)
    assert caught.value.kind is FailureKind.DEADLINE
    assert not caught.value.ambiguous
    assert plan.calls == []


def test_a_deadline_that_passes_while_the_request_is_signed_still_holds_it_back(client: Any) -> None:
    time = ManualTime()
    deadline = Deadline.after(8, time)
    client.meta.events.register("before-sign.dynamodb", lambda **_: time.pass_seconds(8))
    calls = BotoCalls(client)
    with FaultPlan(client) as plan, pytest.raises(CallFailed) as caught:
        calls.send("get_item", GET, deadline)
    assert caught.value.kind is FailureKind.DEADLINE
    assert plan.calls == [], "the plan's hook comes after ours"


def test_the_applications_own_calls_have_no_deadline(client: Any, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("time.sleep", lambda _: None)  # botocore's own pauses
    BotoCalls(client)
    with FaultPlan(client).on("GetItem", throttle) as plan, pytest.raises(ClientError):
        client.get_item(**GET)
    assert plan.injected


@pytest.mark.parametrize("given", [None, "client", object()])
def test_what_is_no_client_is_refused(given: Any) -> None:
    with pytest.raises(ConfigurationError, match="client is needed"):
        BotoCalls(given)


def test_a_client_of_another_service_is_refused() -> None:
    other = boto3.session.Session(**SESSION).client("sts")
    with pytest.raises(ConfigurationError, match="not one for sts"):
        BotoCalls(other)
    other.close()


# --- both flavours ------------------------------------------------------------------------------------------------


def test_the_flavour_is_found_out_without_a_request(client: Any, resource: Any) -> None:
    with FaultPlan(client) as one, FaultPlan(resource.meta.client) as other:
        assert not speaks_python_values(client)
        assert speaks_python_values(resource.meta.client)
    assert one.calls == other.calls == []


@pytest.mark.parametrize("table", ["orders", "Items", "Item", "Keys", "Key", "Responses", "Attributes"])
@pytest.mark.parametrize("flavour", ["client", "resource"])
def test_both_flavours_send_the_same_bytes_also_to_tables_named_like_members(
    table: str, flavour: str, client: Any, resource: Any
) -> None:
    used = client if flavour == "client" else resource.meta.client
    calls = BotoCalls(used)
    item = {"id": {"S": "a"}, "n": {"N": "1.50"}, "b": {"B": b"\x00"}, "m": {"M": {"L": {"L": [{"NULL": True}]}}}}
    key = {"id": {"S": "a"}}
    requests: list[tuple[Any, dict[str, Any]]] = [
        ("put_item", {"TableName": table, "Item": item, "ExpressionAttributeValues": {":a": {"NS": ["1"]}}}),
        ("batch_get_item", {"RequestItems": {table: {"Keys": [key], "ExpressionAttributeNames": {"#a": "Item"}}}}),
        ("batch_write_item", {"RequestItems": {table: [{"DeleteRequest": {"Key": key}}]}}),
        ("query", {"TableName": table, "ExclusiveStartKey": key, "KeyConditionExpression": "id = :a"}),
    ]
    with FaultPlan(used) as plan:
        for operation in ("PutItem", "BatchGetItem", "BatchWriteItem", "Query"):
            plan.on(operation, throttle)
        for call, request in requests:
            with pytest.raises(CallFailed) as caught:
                calls.send(call, request, soon())
            assert caught.value.kind is FailureKind.THROTTLED, caught.value.__cause__
        import json  # noqa: PLC0415

        sent = [json.loads(call.body) for call in plan.calls]
    wired = json.loads(json.dumps([request for _, request in requests], default=lambda _: "AA=="))
    assert sent == wired


@pytest.mark.parametrize("table", ["orders", "Items", "Keys"])
def test_answers_through_a_resource_come_in_the_wires_form(table: str, resource: Any) -> None:
    import json  # noqa: PLC0415

    from botocore.awsrequest import AWSResponse  # noqa: PLC0415
    from botocore.compat import HTTPHeaders  # noqa: PLC0415

    item = {"id": {"S": "a"}, "n": {"N": "1.5"}, "b": {"B": "AA=="}, "s": {"NS": ["1", "2"]}}
    wired = {**item, "b": {"B": b"\x00"}}
    key = {"id": {"S": "a"}}
    body = {
        "Responses": {table: [item]},
        "UnprocessedKeys": {table: {"Keys": [key], "ExpressionAttributeNames": {"#a": "id"}}},
    }

    class Raw:
        def stream(self, **_: Any) -> Any:
            yield json.dumps(body).encode()

    client = resource.meta.client
    calls = BotoCalls(client)
    with FaultPlan(client) as plan:
        plan.on("BatchGetItem", lambda _: AWSResponse("http://x", 200, HTTPHeaders(), Raw()))
        found = calls.send("batch_get_item", {"RequestItems": {table: {"Keys": [key]}}}, soon())
    assert found["Responses"] == {table: [wired]}
    assert found["UnprocessedKeys"] == body["UnprocessedKeys"]
