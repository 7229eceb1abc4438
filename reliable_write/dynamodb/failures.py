"""Every foreign error gets its meaning here and nowhere else.

Codes are those of botocore's DynamoDB model and of the "Error handling" chapter of the Developer Guide
(https://docs.aws.amazon.com/amazondynamodb/latest/developerguide/Programming.Errors.html). A test walks the model and
fails when botocore learns a code that is not sorted here.
"""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import Any, Final

from botocore.exceptions import (
    BotoCoreError,
    ClientError,
    ConnectTimeoutError,
    CredentialRetrievalError,
    EndpointConnectionError,
    HTTPClientError,
    NoCredentialsError,
    NoRegionError,
    ParamValidationError,
    PartialCredentialsError,
    TokenRetrievalError,
)

from reliable_write.policy import FailureKind
from reliable_write.values import WireItem

CONDITION_CODE: Final = "ConditionalCheckFailedException"
CANCELLED_CODE: Final = "TransactionCanceledException"
UNSUPPORTED_CODES: Final = frozenset({"UnknownOperationException", "UnknownOperation"})
"""The engine has no such call."""

KIND_OF_CODE: Final[dict[str, FailureKind]] = {
    **dict.fromkeys(
        (
            "ProvisionedThroughputExceededException",
            "ThrottlingException",
            "Throttling",
            "RequestLimitExceeded",
            "LimitExceededException",
        ),
        FailureKind.THROTTLED,
    ),
    **dict.fromkeys(
        ("TransactionConflictException", "ReplicatedWriteConflictException", "ResourceInUseException"),
        FailureKind.CONFLICT,
    ),
    **dict.fromkeys(
        ("InternalServerError", "InternalFailure", "ServiceUnavailable", "TransactionInProgressException"),
        FailureKind.SERVER,
    ),
    **dict.fromkeys(
        (
            "ValidationException",
            "ItemCollectionSizeLimitExceededException",
            "SerializationException",
            "IdempotentParameterMismatchException",
            "TransactionCanceledException",
        ),
        FailureKind.VALIDATION,
    ),
    **dict.fromkeys(("AccessDeniedException", "AccessDenied", "KMSAccessDeniedException"), FailureKind.ACCESS_DENIED),
    **dict.fromkeys(("ResourceNotFoundException", "TableNotFoundException"), FailureKind.TABLE_MISSING),
    **dict.fromkeys(
        (
            "ExpiredTokenException",
            "ExpiredToken",
            "UnrecognizedClientException",
            "InvalidSignatureException",
            "IncompleteSignatureException",
            "MissingAuthenticationTokenException",
            "InvalidClientTokenId",
            "RequestExpired",
        ),
        FailureKind.CREDENTIALS,
    ),
}


class DeadlinePassed(Exception):
    """Raised between signing and sending. Not one of botocore's classes, so that botocore never retries it."""


class ConditionRefused(Exception):
    """The condition was false, so nothing was changed. `found` is the item that made it false, or None if unknown."""

    def __init__(self, found: WireItem | None, *, ambiguous: bool = False) -> None:
        super().__init__("the condition was not met")
        self.found = found
        self.ambiguous = ambiguous
        """An earlier try of the same request was sent and its answer lost: what is found may be our own doing."""


@dataclass(frozen=True, slots=True)
class CancelReason:
    """Why a transaction was cancelled, as far as one of its actions goes."""

    kind: FailureKind | None
    """None where this action did not object, or where its condition was false."""
    code: str = "None"
    found: WireItem | None = field(default=None, repr=False)
    """The item that made the condition false; None where there was none."""

    @property
    def refused(self) -> bool:
        """Whether its condition was false."""
        return self.code == _CONDITION_REASON


_CONDITION_REASON: Final = "ConditionalCheckFailed"
_KIND_OF_REASON: Final[dict[str, FailureKind]] = {
    "TransactionConflict": FailureKind.CONFLICT,
    "ThrottlingError": FailureKind.THROTTLED,
    "ProvisionedThroughputExceeded": FailureKind.THROTTLED,
    "ItemCollectionSizeLimitExceeded": FailureKind.VALIDATION,
    "ValidationError": FailureKind.VALIDATION,
    "DuplicateItem": FailureKind.VALIDATION,
    "AccessDenied": FailureKind.ACCESS_DENIED,
}
"""Source: the API reference of TransactWriteItems, "Cancellation reason codes"
(https://docs.aws.amazon.com/amazondynamodb/latest/APIReference/API_TransactWriteItems.html)."""


class TransactionCancelled(Exception):
    """A transaction was refused as a whole: this request changed nothing. One reason for each action, in order."""

    def __init__(self, reasons: list[CancelReason], *, ambiguous: bool = False) -> None:
        super().__init__("the transaction was cancelled")
        self.reasons = reasons
        self.ambiguous = ambiguous
        """An earlier try of the same request was sent and its answer lost: what is found may be our own doing."""

    @property
    def passing(self) -> FailureKind | None:
        """Why the same request may succeed in a moment; None where it cannot."""
        kinds = [reason.kind for reason in self.reasons if reason.kind is not None]
        return next((kind for kind in kinds if kind.retryable), None)


class CallFailed(Exception):
    """A call gave no success. `ambiguous`: some try of it may have been applied all the same."""

    def __init__(
        self,
        kind: FailureKind,
        code: str,
        table: str | None,
        *,
        ambiguous: bool | None = None,
        destination: str | None = None,
    ) -> None:
        where = f" on table {table}" if table else f" at destination {destination}" if destination else ""
        super().__init__(f"{kind} ({code}){where}")
        self.kind = kind
        self.code = code
        self.table = table
        self.destination = destination
        """The alias of the place it happened at; None at home."""
        self.ambiguous = not kind.definite if ambiguous is None else ambiguous

    def with_ambiguity(self, *, ambiguous: bool) -> CallFailed:
        """The same failure, knowing what earlier tries may have done."""
        both = self.ambiguous or ambiguous
        again = CallFailed(self.kind, self.code, self.table, ambiguous=both, destination=self.destination)
        again.__cause__ = self.__cause__
        return again


Failure = CallFailed | ConditionRefused | TransactionCancelled


def translate(error: Exception, table: str | None) -> Failure:
    """Any exception of a botocore call as one of ours; the original becomes the cause."""
    ours: Failure
    if isinstance(error, ClientError):
        ours = _from_answer(error, table)
    else:
        ours = CallFailed(_kind_of_transport_error(error), type(error).__name__, table)
    ours.__cause__ = error
    return ours


def _from_answer(error: ClientError, table: str | None) -> Failure:
    code = error.response.get("Error", {}).get("Code", "")
    if code == CANCELLED_CODE and error.response.get("CancellationReasons"):
        return TransactionCancelled([_reason(reason) for reason in error.response["CancellationReasons"]])
    if code == CONDITION_CODE:
        return ConditionRefused(error.response.get("Item") or None)  # type: ignore[arg-type]  # modelled per operation
    status = error.response.get("ResponseMetadata", {}).get("HTTPStatusCode", 0)
    kind = kind_of_answer(code, status)
    # An unknown 4xx was refused; of the known ones TransactionInProgressException was not: that request is under way.
    refused = kind.definite if code in KIND_OF_CODE else 400 <= status < 500  # noqa: PLR2004 - HTTP
    return CallFailed(kind, code or f"HTTP {status}", table, ambiguous=not refused)


def _reason(reason: Any) -> CancelReason:
    code = reason.get("Code") or "None"
    kind = None if code in ("None", _CONDITION_REASON) else _KIND_OF_REASON.get(code, FailureKind.UNCLASSIFIED)
    return CancelReason(kind, code, reason.get("Item") or None)


def kind_of_answer(code: str, status: int) -> FailureKind:
    """The meaning of an error answer. An unknown 4xx was refused, but we do not know for how long."""
    known = KIND_OF_CODE.get(code)
    if known is not None:
        return known
    return FailureKind.SERVER if status >= 500 or status == 0 else FailureKind.UNCLASSIFIED  # noqa: PLR2004 - HTTP


def _kind_of_transport_error(error: Exception) -> FailureKind:
    for classes, kind in _TRANSPORT_KINDS:
        if isinstance(error, classes):
            return kind
    return FailureKind.UNCLASSIFIED


NO_CONNECTION: Final = (EndpointConnectionError, ConnectTimeoutError)
NO_CREDENTIALS: Final = (
    NoCredentialsError,
    PartialCredentialsError,
    CredentialRetrievalError,
    TokenRetrievalError,
    NoRegionError,
)
"""What botocore raises before anything is sent, of any service."""
_TRANSPORT_KINDS: Final[tuple[tuple[tuple[type[Exception], ...], FailureKind], ...]] = (
    ((DeadlinePassed,), FailureKind.DEADLINE),
    # Nothing was sent: no connection was made, or no signature could be.
    (NO_CONNECTION, FailureKind.UNREACHABLE),
    (NO_CREDENTIALS, FailureKind.CREDENTIALS),
    ((ParamValidationError,), FailureKind.VALIDATION),
    # Sent, or perhaps sent: ReadTimeoutError, ConnectionClosedError, SSLError and the rest of the transport's errors.
    ((HTTPClientError, BotoCoreError, OSError), FailureKind.TIMEOUT),
)
