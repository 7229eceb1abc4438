"""All or nothing writes over several DynamoDB tables, through a journal that is finished whatever crashes.

writer = ReliableWriter()
with ReliableWriteScope(writer) as scope:
    scope.put_item("employees", Item=employee)
    scope.put_item("addresses", Item=address)
    receipt = scope.commit()

The names below are imported when first used (PEP 562): `reliable-write --help` must not wait for boto3.
"""

from importlib import import_module
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from reliable_write.counters import AtomicCounter, Counter, ShardedCounter
    from reliable_write.errors import (
        BatchTooLargeError,
        CommitFailedError,
        CommitUnknownError,
        ConditionFailedError,
        ConfigurationError,
        ConsistentReadRefusedError,
        ConstraintViolationError,
        CounterLimitError,
        CounterOutOfSyncError,
        CounterTypeError,
        CounterUnknownError,
        DuplicateKeyError,
        EntryNotFoundError,
        FailedCondition,
        ForeignStampError,
        IdempotencyMismatchError,
        InvalidExpressionError,
        InvalidItemError,
        InvalidKeyError,
        LoadProblem,
        LockLostError,
        LockNotAcquiredError,
        LookFailedError,
        NestedScopeError,
        OperationFailure,
        Outcome,
        PropagationPendingError,
        ReadFailedError,
        RecordDefinitionError,
        RecordDeletedError,
        RecordLoadError,
        ReliableWriteError,
        ScopeClosedError,
        StaleRecordError,
        TooLateError,
        TooManyOperationsError,
        UnknownTableError,
        UnsupportedOperationError,
        UploadIncompleteError,
        UploadRejectedError,
        WriteRejectedError,
        WriteTooLargeError,
        WrongThreadError,
    )
    from reliable_write.first_attempt import Receipt
    from reliable_write.locks import Lease, Leases, Lock, LockState, acquire_all
    from reliable_write.looking import Look, PendingChange
    from reliable_write.plan import Plan
    from reliable_write.reads import ConsistentReadScope
    from reliable_write.records import (
        Constraint,
        FloatAs,
        HashKey,
        RangeKey,
        Record,
        RecordLook,
        RecordStore,
        Version,
        VersionMode,
    )
    from reliable_write.records.shared import SharedRecord, SharedRecords
    from reliable_write.recovery import ResumeReport, WriteState
    from reliable_write.scope import ReliableWriteScope, UncommittedScopeWarning
    from reliable_write.settings import Destination, Settings
    from reliable_write.uploads import UploadOnce, UploadReport
    from reliable_write.writer import ReliableWriter

__version__ = "0.1.0"

__all__ = [
    "AtomicCounter",
    "BatchTooLargeError",
    "CommitFailedError",
    "CommitUnknownError",
    "ConditionFailedError",
    "ConfigurationError",
    "ConsistentReadRefusedError",
    "ConsistentReadScope",
    "Constraint",
    "ConstraintViolationError",
    "Counter",
    "CounterLimitError",
    "CounterOutOfSyncError",
    "CounterTypeError",
    "CounterUnknownError",
    "Destination",
    "DuplicateKeyError",
    "EntryNotFoundError",
    "FailedCondition",
    "FloatAs",
    "ForeignStampError",
    "HashKey",
    "IdempotencyMismatchError",
    "InvalidExpressionError",
    "InvalidItemError",
    "InvalidKeyError",
    "Lease",
    "Leases",
    "LoadProblem",
    "Lock",
    "LockLostError",
    "LockNotAcquiredError",
    "LockState",
    "Look",
    "LookFailedError",
    "NestedScopeError",
    "OperationFailure",
    "Outcome",
    "PendingChange",
    "Plan",
    "PropagationPendingError",
    "RangeKey",
    "ReadFailedError",
    "Receipt",
    "Record",
    "RecordDefinitionError",
    "RecordDeletedError",
    "RecordLoadError",
    "RecordLook",
    "RecordStore",
    "ReliableWriteError",
    "ReliableWriteScope",
    "ReliableWriter",
    "ResumeReport",
    "ScopeClosedError",
    "Settings",
    "ShardedCounter",
    "SharedRecord",
    "SharedRecords",
    "StaleRecordError",
    "TooLateError",
    "TooManyOperationsError",
    "UncommittedScopeWarning",
    "UnknownTableError",
    "UnsupportedOperationError",
    "UploadIncompleteError",
    "UploadOnce",
    "UploadRejectedError",
    "UploadReport",
    "Version",
    "VersionMode",
    "WriteRejectedError",
    "WriteState",
    "WriteTooLargeError",
    "WrongThreadError",
    "acquire_all",
]

_HOMES = {
    "AtomicCounter": "reliable_write.counters",
    "Counter": "reliable_write.counters",
    "ShardedCounter": "reliable_write.counters",
    "FloatAs": "reliable_write.records",
    "HashKey": "reliable_write.records",
    "RangeKey": "reliable_write.records",
    "Constraint": "reliable_write.records",
    "Record": "reliable_write.records",
    "SharedRecord": "reliable_write.records.shared",
    "SharedRecords": "reliable_write.records.shared",
    "RecordLook": "reliable_write.records",
    "RecordStore": "reliable_write.records",
    "Version": "reliable_write.records",
    "VersionMode": "reliable_write.records",
    "ConsistentReadScope": "reliable_write.reads",
    "Lease": "reliable_write.locks",
    "Leases": "reliable_write.locks",
    "Lock": "reliable_write.locks",
    "LockState": "reliable_write.locks",
    "acquire_all": "reliable_write.locks",
    "Look": "reliable_write.looking",
    "PendingChange": "reliable_write.looking",
    "Plan": "reliable_write.plan",
    "Receipt": "reliable_write.first_attempt",
    "ResumeReport": "reliable_write.recovery",
    "WriteState": "reliable_write.recovery",
    "ReliableWriteScope": "reliable_write.scope",
    "UncommittedScopeWarning": "reliable_write.scope",
    "Destination": "reliable_write.settings",
    "Settings": "reliable_write.settings",
    "UploadOnce": "reliable_write.uploads",
    "UploadReport": "reliable_write.uploads",
    "ReliableWriter": "reliable_write.writer",
}
"""Where the public names live; those not named here are errors."""

if not TYPE_CHECKING:  # a type checker that saw this would take every misspelt name for a good one

    def __getattr__(name: str) -> object:
        if name not in __all__:
            raise AttributeError(f"module {__name__!r} has no attribute {name!r}")
        value = getattr(import_module(_HOMES.get(name, "reliable_write.errors")), name)
        globals()[name] = value
        return value

    def __dir__() -> list[str]:
        return sorted({*globals(), *__all__})
