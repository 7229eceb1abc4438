"""`Calls` that reach further: tables named `alias:table` lie in another Region, account or endpoint.

An alias is all that a journal entry holds, never an endpoint or a credential: a process goes only where its own
settings let it. Everything above this room sees one store with such names in it.
"""

from __future__ import annotations

import threading
from collections.abc import Callable, Mapping
from typing import Any, Final

import boto3
import botocore.session
from botocore.config import Config
from botocore.credentials import CredentialProvider, CredentialResolver, DeferredRefreshableCredentials
from botocore.exceptions import CredentialRetrievalError

from reliable_write import limits
from reliable_write.clock import Deadline, SystemTime, TimeSource
from reliable_write.dynamodb.boto import BotoCalls, open_client
from reliable_write.dynamodb.calls import CallName
from reliable_write.dynamodb.failures import CallFailed
from reliable_write.errors import ConfigurationError
from reliable_write.policy import FailureKind
from reliable_write.settings import Destination, Settings, joined_alias, same_place_refusal, split_alias

_ANSWERS_BY_TABLE: Final = ("Responses", "UnprocessedKeys", "UnprocessedItems")


class RoutedCalls:
    """`Calls` over a client at home and one for each destination, opened when first needed. Safe for threads."""

    def __init__(self, home: BotoCalls, openers: Mapping[str, Callable[[], BotoCalls]]) -> None:
        self._home = home
        self._openers = dict(openers)
        self._opened: dict[str, BotoCalls] = {}
        self._lock = threading.Lock()

    @property
    def client(self) -> Any:
        """The boto3 client at home, where the system table is."""
        return self._home.client

    def client_of(self, table: str) -> tuple[Any, str]:
        """The boto3 client where this table lies, and the table's name there. Raises `CallFailed`."""
        alias, name = split_alias(table)
        return (self.client if alias is None else self._at(alias).client), name

    def send(self, call: CallName, request: Mapping[str, Any], deadline: Deadline) -> dict[str, Any]:
        """See `Calls.send`. A batch over several places is one request to each."""
        if "RequestItems" in request:
            return self._send_batch(call, request, deadline)
        named = "ResourceArn" if "ResourceArn" in request else "TableName"
        alias, name = split_alias(request.get(named, ""))
        if alias is None:
            return self._home.send(call, request, deadline)
        answer = self._send_to(alias, call, {**request, named: name}, deadline)
        if "Table" in answer:  # DescribeTable; the ARN too is asked about again
            table = answer["Table"]
            arn = joined_alias(alias, table.get("TableArn", ""))
            answer["Table"] = {**table, "TableName": request["TableName"], "TableArn": arn}
        return answer

    def _send_batch(self, call: CallName, request: Mapping[str, Any], deadline: Deadline) -> dict[str, Any]:
        by_alias: dict[str | None, dict[str, Any]] = {}
        for name, part in request["RequestItems"].items():
            alias, table = split_alias(name)
            by_alias.setdefault(alias, {})[table] = part
        whole: dict[str, Any] = {}
        for alias, items in by_alias.items():
            answer = self._send_to(alias, call, {**request, "RequestItems": items}, deadline)
            for member in _ANSWERS_BY_TABLE:
                for table, part in (answer.get(member) or {}).items():
                    whole.setdefault(member, {})[joined_alias(alias, table)] = part
        return whole

    def _send_to(
        self, alias: str | None, call: CallName, request: Mapping[str, Any], deadline: Deadline
    ) -> dict[str, Any]:
        if alias is None:
            return self._home.send(call, request, deadline)
        calls = self._at(alias)
        try:
            return calls.send(call, request, deadline)
        except CallFailed as failure:
            table = None if failure.table is None else joined_alias(alias, failure.table)
            raise CallFailed(
                failure.kind, failure.code, table, ambiguous=failure.ambiguous, destination=alias
            ) from failure.__cause__

    def _at(self, alias: str) -> BotoCalls:
        """The calls of a destination. Under the lock only botocore may ask anybody anything, for credentials."""
        with self._lock:
            if alias not in self._opened:
                opener = self._openers.get(alias)
                if opener is None:
                    raise CallFailed(FailureKind.DESTINATION_UNKNOWN, alias, None)
                try:
                    self._opened[alias] = opener()
                except ConfigurationError as error:
                    raise CallFailed(FailureKind.CREDENTIALS, "NoClient", None, destination=alias) from error
            return self._opened[alias]


def open_calls(
    settings: Settings,
    client: Any = None,
    session: boto3.session.Session | None = None,
    time: TimeSource | None = None,
) -> RoutedCalls:
    """Calls for these settings: over `client` at home, or one opened as `open_client` does.

    Raises `ConfigurationError`, also where two names lead to one place now that the home's Region is known.
    """
    home = BotoCalls(client if client is not None else open_client(settings, session))
    meta = home.client.meta
    refusal = same_place_refusal(settings.destinations, meta.region_name, settings.endpoint_url or meta.endpoint_url)
    if refusal is not None:
        raise ConfigurationError(f"Settings are not usable: destinations: {refusal}.")
    clock = time if time is not None else SystemTime()
    openers = {alias: _opener(settings, alias, place, session, clock) for alias, place in settings.destinations.items()}
    # Also without destinations: an entry may name one, and must be told so by name.
    return RoutedCalls(home, openers)


def _opener(
    settings: Settings, alias: str, place: Destination, session: boto3.session.Session | None, time: TimeSource
) -> Callable[[], BotoCalls]:
    def open_there() -> BotoCalls:
        there = settings.model_copy(
            update={"region": place.region_name or settings.region, "endpoint_url": place.endpoint_url}
        )
        if place.role_arn is None:
            return BotoCalls(open_client(there, session))
        return BotoCalls(open_client(there, _session_of_role(there, alias, place, session, time)))

    return open_there


def _session_of_role(
    settings: Settings, alias: str, place: Destination, session: boto3.session.Session | None, time: TimeSource
) -> boto3.session.Session:
    """A session whose credentials are those of the role, renewed before they expire."""
    if session is None:
        session = boto3.session.Session(profile_name=settings.profile, region_name=settings.region)
    region = settings.region or session.region_name
    patience = Config(
        connect_timeout=settings.connect_timeout_seconds,
        read_timeout=settings.read_timeout_seconds,
        retries={"total_max_attempts": 1, "mode": "standard"},
    )
    role = _Role(lambda: session.client("sts", region_name=region, config=patience), alias, place, time)
    ours = botocore.session.Session()
    ours.register_component("credential_provider", CredentialResolver([role]))
    return boto3.session.Session(botocore_session=ours, region_name=region)


class RoleNotAssumed(CredentialRetrievalError):
    """STS did not give credentials for a destination's role."""

    fmt = "{error_msg}"


class _Role(CredentialProvider):
    """Credentials by sts:AssumeRole, asked for with the first request, and renewed by botocore before they expire.

    Whatever STS answers becomes a `RoleNotAssumed`: a role that cannot be assumed now may be assumed later,
    so a write waits for it. That STS denies the role must not read as the table denying the write.
    """

    METHOD = "assume-role"
    CANONICAL_NAME = "reliable-write-destination"

    def __init__(self, open_sts: Callable[[], Any], alias: str, place: Destination, time: TimeSource) -> None:
        super().__init__()
        self._open_sts = open_sts
        self._alias = alias
        self._place = place
        self._time = time
        self._sts: Any = None
        self._refusal: str | None = None
        self._ask_again_at = 0.0

    def load(self) -> DeferredRefreshableCredentials:
        """See `CredentialProvider.load`."""
        return DeferredRefreshableCredentials(refresh_using=self._credentials, method=self.METHOD)

    def _credentials(self) -> dict[str, str]:
        """One thread at a time: botocore holds a lock. Those behind it share a refusal instead of waiting in turn."""
        if self._refusal is not None and self._time.elapsed_seconds() < self._ask_again_at:
            raise RoleNotAssumed(provider=self.METHOD, error_msg=self._refusal)
        try:
            found = self._assume()
        except Exception as error:
            self._refusal = f"the role of destination {self._alias} could not be assumed: {error}"
            self._ask_again_at = self._time.elapsed_seconds() + limits.ROLE_RETRY_SECONDS
            raise RoleNotAssumed(provider=self.METHOD, error_msg=self._refusal) from error
        self._refusal = None
        return found

    def _assume(self) -> dict[str, str]:
        if self._sts is None:
            self._sts = self._open_sts()
        request = {"RoleArn": self._place.role_arn, "RoleSessionName": "reliable-write"}
        if self._place.external_id is not None:
            request["ExternalId"] = self._place.external_id
        found = self._sts.assume_role(**request)["Credentials"]
        return {
            "access_key": found["AccessKeyId"],
            "secret_key": found["SecretAccessKey"],
            "token": found["SessionToken"],
            "expiry_time": found["Expiration"].isoformat(),
        }
