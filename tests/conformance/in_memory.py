"""The simulation's tables as an engine of this suite: what the proof leans on must answer as DynamoDB does.

They stand behind the engine's own narrow protocol, so a small client turns boto3's calls into it, and its failures into
boto3's. What the library never sends is not there; what it checks before it sends is believed: `lacks` and `LIMITS` say
so, case by case.
"""

from __future__ import annotations

import threading
from collections.abc import Mapping
from types import MappingProxyType
from typing import Any, Final, Self

from botocore.exceptions import ClientError

from reliable_write.dynamodb import CallFailed, ConditionRefused, TransactionCancelled
from reliable_write.dynamodb.failures import CANCELLED_CODE, CONDITION_CODE, CancelReason
from reliable_write.testing.engines import Capability, Engine
from tests.simulation.memory import MemoryTables

_BELIEVED: Final = "the library refuses it before it sends, and the tables in memory believe what is sent"
_TABLES: Final = "tables are made by the test that uses them, not by a call"
_UNSENT: Final = "the library never sends it"
_STRINGS: Final = "all its keys are strings"
LIMITS: Final[Mapping[str, str]] = {
    "test_pages_of_a_query_end_at_one_megabyte": "pages end after so many items: more pages, sooner",
    "test_an_item_over_400_kb_stops_the_transaction": _BELIEVED,
    "test_an_empty_string_is_refused_as_a_key": _BELIEVED,
    "test_keys_have_a_size_of_their_own": _BELIEVED,
    "test_what_is_no_number_is_refused": _BELIEVED,
    "test_binary_keys_are_told_apart_by_their_bytes": _STRINGS,
    "test_number_sort_keys_are_ordered_by_value": _STRINGS,
    "test_an_index_answers_no_strong_read": "it has no indexes",
    "test_describe_tells_the_indexes": "it has no indexes",
    "test_describe_tells_the_local_indexes": "it has no indexes",
    "test_size_type_and_contains_are_understood": "only callers' own conditions have them",
    "test_nested_paths_and_list_append": "only callers' own updates have them",
    "test_a_transact_get_reads_across_tables": "a read of the application's; the protocol of calls has none",
    "test_a_table_is_not_created_twice": _TABLES,
    "test_a_key_schema_with_an_undefined_attribute_is_refused": _TABLES,
    "test_the_waiter_sees_a_new_table": _TABLES,
    "test_tables_are_listed_in_pages": _TABLES,
    "test_on_demand_billing_is_kept": _TABLES,
    "test_time_to_live_is_off_at_first": _TABLES,
}
"""Cases in which the tables in memory differ, with the reason. Each must fail: what has been mended is no limit."""


class InMemory(Engine):
    """Dictionaries, and nothing that could be started or killed."""

    name = "in-memory"
    lacks = MappingProxyType(
        {
            Capability.REQUEST_TOKENS: "a token is not honoured, as ten minutes later: receipts alone must do",
            Capability.TRANSACTION_SIZE_LIMIT: _BELIEVED,
            Capability.CONSUMED_CAPACITY: "nothing is billed",
            Capability.BATCH_GET_CAPACITY: "nothing is billed",
            Capability.NUMBER_DUPLICATES_REFUSED: _STRINGS,
            Capability.NUMBER_KEYS_CANONICAL: _STRINGS,
            Capability.NUMBERS_STORED_CANONICAL: "a number stays as it was sent",
            Capability.NUMBER_LIMITS: _BELIEVED,
            Capability.ITEM_SIZE_LIMIT: _BELIEVED,
            Capability.NESTING_LIMIT: _BELIEVED,
            Capability.SET_CHECKS: _BELIEVED,
            Capability.INDEX_KEY_CHECKS: "it has no indexes",
            Capability.UNUSED_VALUES_REFUSED: _UNSENT,
            Capability.PATHS_UPDATED_ONCE: _UNSENT,
            Capability.TTL: _TABLES,
            Capability.POINT_IN_TIME_RECOVERY: _TABLES,
            Capability.DELETION_PROTECTION: _TABLES,
            Capability.REGIONS: "it is one place",
            Capability.DURABLE: "everything is in memory",
        }
    )

    @classmethod
    def absent(cls) -> str | None:
        return None

    @property
    def endpoint_url(self) -> str:
        raise NotImplementedError

    def start(self) -> Self:
        return self

    def kill(self) -> None:
        raise NotImplementedError

    def restart(self) -> Self:
        raise NotImplementedError

    def _end(self) -> None:
        pass

    def _new_client(self, session: object, config: Mapping[str, Any]) -> Any:
        raise NotImplementedError

    def client(self, **_config: Any) -> Any:
        return MemoryClient()


class MemoryClient:
    """As much of a boto3 client as this suite calls."""

    def __init__(self) -> None:
        self._tables = MemoryTables(page_items=100)
        self._lock = threading.Lock()

    def create_table(self, TableName: str, KeySchema: list[dict[str, str]], **_: Any) -> None:  # noqa: N803 - boto3's
        self._tables.create(TableName, *(key["AttributeName"] for key in KeySchema))

    def delete_table(self, TableName: str) -> None:  # noqa: N803 - boto3's
        del self._tables.tables[TableName]

    def __getattr__(self, call: str) -> Any:
        return lambda **request: self._send(call, request)

    def _send(self, call: Any, request: Mapping[str, Any]) -> dict[str, Any]:
        """One after another, as the simulation has it: each request is one step."""
        try:
            with self._lock:
                return self._tables.apply(call, request)
        except ConditionRefused as refused:
            raise _error(call, CONDITION_CODE, {"Item": refused.found} if refused.found else {}) from refused
        except TransactionCancelled as cancelled:
            reasons = {"CancellationReasons": [_reason(reason) for reason in cancelled.reasons]}
            raise _error(call, CANCELLED_CODE, reasons) from cancelled
        except CallFailed as failure:
            raise _error(call, failure.code, {}) from failure


def _reason(reason: CancelReason) -> dict[str, Any]:
    return {"Code": reason.code, **({"Item": reason.found} if reason.found else {})}


def _error(call: str, code: str, more: Mapping[str, Any]) -> ClientError:
    answer: Any = {"Error": {"Code": code}, "ResponseMetadata": {"HTTPStatusCode": 400}, **more}
    return ClientError(answer, call)
