"""What the engine can do, asked of itself: what is missing is refused by name, never silently weakened."""

from __future__ import annotations

from reliable_write.clock import Deadline, TimeSource
from reliable_write.dynamodb import CallFailed, Store
from reliable_write.dynamodb.failures import UNSUPPORTED_CODES, TransactionCancelled
from reliable_write.errors import CommitFailedError, UnsupportedOperationError
from reliable_write.values import WireItem


class Capabilities:
    """Of the engine that holds one system table. Each is asked for when first needed, once in a process."""

    def __init__(self, store: Store, table: str, record: WireItem, time: TimeSource) -> None:
        """`record` is the key of something that is always there."""
        self._store = store
        self._table = table
        self._record = record
        self._time = time
        self._transactions: bool | None = None

    def require_transactions(self, what: str, deadline: Deadline) -> None:
        """Raise `UnsupportedOperationError`, saying what needs it, where the engine has no TransactWriteItems.

        Asked with a check that changes nothing. Raises `CommitFailedError` where no answer comes.
        """
        if self._transactions is None:
            self._transactions = self._ask(what, deadline)
        if not self._transactions:
            raise UnsupportedOperationError(
                f"{what} needs TransactWriteItems, which this engine does not have. Puts and deletes without "
                "conditions keep all their promises here."
            )

    def _ask(self, what: str, deadline: Deadline) -> bool:
        check = {"TableName": self._table, "Key": self._record, "ConditionExpression": "attribute_exists(pk)"}
        # Never the same token twice: for ten minutes it stands for these very bytes, in all of an account.
        token = self._time.random_bytes(16).hex()
        try:
            self._store.transact([{"ConditionCheck": check}], token, deadline)
        except TransactionCancelled:
            return True  # it was understood
        except CallFailed as failure:
            if failure.code in UNSUPPORTED_CODES:
                return False
            raise CommitFailedError(
                f"{what} needs TransactWriteItems, and whether the engine has it could not be asked: {failure}. "
                "Nothing was written. The service needs dynamodb:ConditionCheckItem on the system table.",
                retryable=failure.kind.retryable,
            ) from failure
        return True
