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
from botocore.credentials import CredentialProvider, CredentialResolver, RefreshableCredentials

from reliable_write.clock import Deadline
from reliable_write.dynamodb.boto import BotoCalls, open_client
from reliable_write.dynamodb.calls import CallName
from reliable_write.dynamodb.failures import CallFailed, ConditionRefused
from reliable_write.errors import ConfigurationError
from reliable_write.policy import FailureKind
from reliable_write.settings import Destination, Settings, split_alias

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

    def send(self, call: CallName, request: Mapping[str, Any], deadline: Deadline) -> dict[str, Any]:
        """See `Calls.send`. A batch over several places is one request to each."""
        if "RequestItems" in request:
            return self._send_batch(call, request, deadline)
        alias, table = split_alias(request.get("TableName", ""))
        if alias is None:
            return self._home.send(call, request, deadline)
        answer = self._send_to(alias, call, {**request, "TableName": table}, deadline)
        if "Table" in answer:  # DescribeTable
            answer["Table"] = {**answer["Table"], "TableName": request["TableName"]}
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
                    whole.setdefault(member, {})[_joined(alias, table)] = part
        return whole

    def _send_to(
        self, alias: str | None, call: CallName, request: Mapping[str, Any], deadline: Deadline
    ) -> dict[str, Any]:
        calls = self._home if alias is None else self._at(alias)
        try:
            return calls.send(call, request, deadline)
        except ConditionRefused:
            raise
        except CallFailed as failure:
            told = alias if failure.table is None else _joined(alias, failure.table)
            raise CallFailed(failure.kind, failure.code, told, ambiguous=failure.ambiguous) from failure.__cause__

    def _at(self, alias: str) -> BotoCalls:
        with self._lock:
            if alias not in self._opened:
                opener = self._openers.get(alias)
                if opener is None:
                    raise CallFailed(FailureKind.DESTINATION_UNKNOWN, alias, None)
                try:
                    self._opened[alias] = opener()
                except ConfigurationError as error:
                    raise CallFailed(FailureKind.CREDENTIALS, "NoClient", alias) from error
            return self._opened[alias]


def open_calls(
    settings: Settings, client: Any = None, session: boto3.session.Session | None = None
) -> BotoCalls | RoutedCalls:
    """Calls for these settings: over `client` at home, or one opened as `open_client` does."""
    home = BotoCalls(client if client is not None else open_client(settings, session))
    openers = {alias: _opener(settings, place, session) for alias, place in settings.destinations.items()}
    # Also without destinations: an entry may name one, and must be told so by name.
    return RoutedCalls(home, openers)


def _opener(settings: Settings, place: Destination, session: boto3.session.Session | None) -> Callable[[], BotoCalls]:
    def open_there() -> BotoCalls:
        there = settings.model_copy(
            update={"region": place.region_name or settings.region, "endpoint_url": place.endpoint_url}
        )
        if place.role_arn is None:
            return BotoCalls(open_client(there, session))
        return BotoCalls(open_client(there, _session_of_role(there, place, session)))

    return open_there


def _session_of_role(
    settings: Settings, place: Destination, session: boto3.session.Session | None
) -> boto3.session.Session:
    """A session whose credentials are those of the role, renewed before they expire."""
    if session is None:
        session = boto3.session.Session(profile_name=settings.profile, region_name=settings.region)
    ours = botocore.session.Session()
    ours.register_component("credential_provider", CredentialResolver([_Role(session, place)]))
    return boto3.session.Session(botocore_session=ours, region_name=settings.region)


class _Role(CredentialProvider):
    """Credentials by sts:AssumeRole."""

    METHOD = "assume-role"
    CANONICAL_NAME = "reliable-write-destination"

    def __init__(self, session: boto3.session.Session, place: Destination) -> None:
        super().__init__()
        self._session = session
        self._place = place

    def load(self) -> RefreshableCredentials:
        """See `CredentialProvider.load`."""
        return RefreshableCredentials.create_from_metadata(
            metadata=self._assume(), refresh_using=self._assume, method=self.METHOD
        )

    def _assume(self) -> dict[str, str]:
        request = {"RoleArn": self._place.role_arn, "RoleSessionName": "reliable-write"}
        if self._place.external_id is not None:
            request["ExternalId"] = self._place.external_id
        client = self._session.client("sts", region_name=self._place.region_name or self._session.region_name)
        found = client.assume_role(**request)["Credentials"]
        return {
            "access_key": found["AccessKeyId"],
            "secret_key": found["SecretAccessKey"],
            "token": found["SessionToken"],
            "expiry_time": found["Expiration"].isoformat(),
        }


def _joined(alias: str | None, table: str) -> str:
    return table if alias is None else f"{alias}:{table}"
