"""All or nothing writes over several DynamoDB tables, through a journal that is finished whatever crashes.

writer = ReliableWriter()
with ReliableWriteScope(writer) as scope:
    scope.put_item("employees", Item=employee)
    scope.put_item("addresses", Item=address)
    receipt = scope.commit()
"""

from reliable_write.commit import Receipt
from reliable_write.errors import (
    BatchTooLargeError,
    CommitFailedError,
    CommitUnknownError,
    ConfigurationError,
    DuplicateKeyError,
    EntryNotFoundError,
    ForeignStampError,
    InvalidItemError,
    InvalidKeyError,
    NestedScopeError,
    OperationFailure,
    Outcome,
    PropagationPendingError,
    ReliableWriteError,
    ScopeClosedError,
    TooLateError,
    TooManyOperationsError,
    UnknownTableError,
    UnsupportedOperationError,
    WriteRejectedError,
    WriteTooLargeError,
    WrongThreadError,
)
from reliable_write.recovery import ResumeReport
from reliable_write.scope import ReliableWriteScope, UncommittedScopeWarning
from reliable_write.settings import Settings
from reliable_write.writer import ReliableWriter

__version__ = "0.1.0"

__all__ = [
    "BatchTooLargeError",
    "CommitFailedError",
    "CommitUnknownError",
    "ConfigurationError",
    "DuplicateKeyError",
    "EntryNotFoundError",
    "ForeignStampError",
    "InvalidItemError",
    "InvalidKeyError",
    "NestedScopeError",
    "OperationFailure",
    "Outcome",
    "PropagationPendingError",
    "Receipt",
    "ReliableWriteError",
    "ReliableWriteScope",
    "ReliableWriter",
    "ResumeReport",
    "ScopeClosedError",
    "Settings",
    "TooLateError",
    "TooManyOperationsError",
    "UncommittedScopeWarning",
    "UnknownTableError",
    "UnsupportedOperationError",
    "WriteRejectedError",
    "WriteTooLargeError",
    "WrongThreadError",
]
