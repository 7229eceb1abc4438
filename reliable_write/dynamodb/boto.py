"""`Calls` over a boto3 client, through its public calls and events only.

Two event handlers do what no setting of boto3 does: `before-send` looks at the deadline after the request is signed and
just before it leaves, and `needs-retry` raises the first failure at once, because the SDK's own retries hide whether an
earlier try was applied. Both act only while one of our calls runs, so a client shared with the application keeps its
own behaviour for the application's calls.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from contextvars import ContextVar
from typing import Any, Final
from urllib.parse import urlsplit

import boto3
from botocore.config import Config
from botocore.exceptions import BotoCoreError, ClientError

from reliable_write import limits
from reliable_write.clock import Deadline
from reliable_write.dynamodb.calls import CallName
from reliable_write.dynamodb.failures import DeadlinePassed, translate
from reliable_write.errors import ConfigurationError
from reliable_write.settings import Settings
from reliable_write.values import decode_item, encode_item

_HTTP_ERROR_MIN: Final = 300
_SPARE_CONNECTIONS: Final = 8
"""Beside the propagation threads: commits, witnesses and the deletion of finished entries."""

_AWS_SUFFIXES: Final = ("amazonaws.com", "amazonaws.com.cn", "api.aws", "api.amazonwebservices.com.cn")
"""Of Regions, dual-stack and VPC endpoints (https://docs.aws.amazon.com/general/latest/gr/ddb.html). Isolated
partitions have others: collection is switched on there by its setting."""

_running: ContextVar[Deadline | None] = ContextVar("reliable_write_running_call", default=None)
"""The deadline of our call in this thread; None while the application uses the client by itself."""


def open_client(settings: Settings, session: boto3.session.Session | None = None) -> Any:
    """A low-level client of our own: our timeouts, no retries, a connection for each thread.

    Raises `ConfigurationError` where botocore finds no Region, or not the profile.
    """
    config = Config(
        connect_timeout=settings.connect_timeout_seconds,
        read_timeout=settings.read_timeout_seconds,
        retries={"total_max_attempts": 1, "mode": "standard"},
        max_pool_connections=settings.propagation_threads + _SPARE_CONNECTIONS,
        user_agent_extra="reliable-write",
        # A proxy of the environment is not for an engine on this machine.
        proxies={} if _is_loopback(settings.endpoint_url) else None,
    )
    try:
        if session is None:
            session = boto3.session.Session(profile_name=settings.profile, region_name=settings.region)
        return session.client(
            "dynamodb", region_name=settings.region, endpoint_url=settings.endpoint_url, config=config
        )
    except (BotoCoreError, ValueError) as error:  # ValueError: an endpoint that is no URL
        raise ConfigurationError(
            f"No DynamoDB client can be made: {str(error).rstrip('.')}. Set, as they apply, RELIABLE_WRITE_REGION "
            "(AWS_DEFAULT_REGION), RELIABLE_WRITE_PROFILE (AWS_PROFILE) and RELIABLE_WRITE_ENDPOINT_URL."
        ) from error


def is_aws(endpoint_url: str) -> bool:
    """Whether this is an endpoint of AWS's own, which refuses old signatures. What stands elsewhere may not."""
    host = urlsplit(endpoint_url).hostname or ""
    return any(host.endswith(f".{suffix}") for suffix in _AWS_SUFFIXES)


def _is_loopback(endpoint_url: str | None) -> bool:
    return urlsplit(endpoint_url or "").hostname in ("127.0.0.1", "localhost", "::1")


class BotoCalls:
    """`Calls` over one boto3 client, low-level or from a resource (`resource.meta.client`)."""

    def __init__(self, client: Any) -> None:
        if getattr(getattr(client, "meta", None), "service_model", None) is None:
            raise ConfigurationError(f"A boto3 DynamoDB client is needed, not {type(client).__name__}.")
        if client.meta.service_model.service_name != "dynamodb":
            raise ConfigurationError(
                f"A DynamoDB client is needed, not one for {client.meta.service_model.service_name}."
            )
        self.client = client
        self._python_values = speaks_python_values(client)
        events = client.meta.events
        events.register_last("before-send.dynamodb", _check_deadline, unique_id="reliable-write-deadline")
        events.register_first("needs-retry.dynamodb", _no_retries, unique_id="reliable-write-no-retries")

    def send(self, call: CallName, request: Mapping[str, Any], deadline: Deadline) -> dict[str, Any]:
        """See `Calls.send`."""
        token = _running.set(deadline)
        try:
            if deadline.passed():
                raise DeadlinePassed
            return self._invoke(call, request)
        except Exception as error:
            raise translate(error, request.get("TableName")) from error
        finally:
            _running.reset(token)

    def _invoke(self, call: CallName, request: Mapping[str, Any]) -> dict[str, Any]:
        method = getattr(self.client, call)
        if not self._python_values:
            return dict(method(**request))
        return dict(_convert(method(**_convert(request, decode_item)), _to_wire))


def _check_deadline(**_: Any) -> None:
    """Raise past the deadline; returning None lets the request go."""
    deadline = _running.get()
    if deadline is not None and deadline.passed():
        raise DeadlinePassed


def _no_retries(
    response: tuple[Any, dict[str, Any]] | None = None,
    caught_exception: Exception | None = None,
    operation: Any = None,
    **_: Any,
) -> None:
    """Raise a failure before botocore's own handler can decide to send the request again."""
    if _running.get() is None:
        return
    if caught_exception is not None:
        raise caught_exception
    if response is not None and response[0].status_code >= _HTTP_ERROR_MIN:
        raise ClientError(response[1], operation.name)  # type: ignore[arg-type]  # the parsed answer


def speaks_python_values(client: Any) -> bool:
    """Whether this client serialises values by itself, as those of a resource do.

    Its type tells nothing, so its own event for building a request is asked with a sample; nothing is sent.
    """
    model = client.meta.service_model.operation_model("GetItem")
    sample: dict[str, Any] = {"TableName": "sample", "Key": {"k": "v"}}
    client.meta.events.emit("before-parameter-build.dynamodb.GetItem", params=sample, model=model, context={})
    return bool(sample["Key"] != {"k": "v"})


# --- a resource's client wants and gives Python values; the engine speaks the wire's ------------------------------

_ITEM_MEMBERS: Final = frozenset(
    {"Item", "Key", "ExclusiveStartKey", "LastEvaluatedKey", "Attributes", "ExpressionAttributeValues"}
)
_LIST_MEMBERS: Final = frozenset({"Items", "Keys"})
# In a transaction: Put, Delete, Update and ConditionCheck hold Item, Key and ExpressionAttributeValues like requests.
_BY_TABLE_MEMBERS: Final = frozenset({"RequestItems", "UnprocessedKeys", "UnprocessedItems"})


def _convert(message: Any, convert_item: Callable[[Any], Any]) -> Any:
    """A request or an answer with every item in it converted; everything else as it is."""
    if isinstance(message, list):
        return [_convert(part, convert_item) for part in message]
    if not isinstance(message, Mapping):
        return message
    return {name: _convert_member(name, part, convert_item) for name, part in message.items()}


def _convert_member(name: str, part: Any, convert_item: Callable[[Any], Any]) -> Any:
    if name in _ITEM_MEMBERS:
        return convert_item(part)
    if name in _LIST_MEMBERS:
        return [convert_item(item) for item in part]
    # In batches names of tables stand where names of members do, and a table may well be called "Items".
    if name == "Responses":
        return {table: [convert_item(item) for item in items] for table, items in part.items()}
    if name in _BY_TABLE_MEMBERS:
        return {table: _convert(requests, convert_item) for table, requests in part.items()}
    return _convert(part, convert_item)


def _to_wire(item: Mapping[str, Any]) -> dict[str, Any]:
    return encode_item(item, "answer")


assert limits.READ_TIMEOUT_SECONDS > limits.CONNECT_TIMEOUT_SECONDS
