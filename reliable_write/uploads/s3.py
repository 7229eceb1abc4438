"""A boto3 client for S3 with our manners: every attempt is seen by us, and every foreign error gets its meaning here.

The SDK's own retries would hide whether an earlier try of a conditional put was applied: then S3 answers the second one
with "412, there is an object", and it is our own. So what may have been applied is raised at once (`needs-retry`), and
we send it again by ourselves. Answers that say for certain that nothing was done (4xx, redirects to another Region) are
left to the SDK. A client that the application uses too keeps its own behaviour for the application's calls.
"""

from __future__ import annotations

import enum
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from contextvars import ContextVar
from typing import Any, Final, TypeVar
from urllib.parse import urlsplit

import boto3
from botocore.config import Config
from botocore.exceptions import BotoCoreError, ClientError, HTTPClientError, ParamValidationError

from reliable_write import limits
from reliable_write.dynamodb import is_aws
from reliable_write.dynamodb.failures import NO_CONNECTION, NO_CREDENTIALS
from reliable_write.errors import ConfigurationError
from reliable_write.settings import Settings

T = TypeVar("T")
_SERVER_ERROR_MIN: Final = 500
_SPARE_CONNECTIONS: Final = 2

_running: ContextVar[bool] = ContextVar("reliable_write_running_s3_call", default=False)


class Trouble(enum.StrEnum):
    """Why a call to S3 failed, as far as it changes what we do."""

    BUSY = "asked to slow down"
    CONFLICT = "a conflicting request is under way"
    UNREACHABLE = "not reachable"
    NO_ANSWER = "no answer"
    SERVER = "server error"
    CREDENTIALS = "credentials"
    DENIED = "access denied"
    NO_BUCKET = "no such bucket, or in another Region"
    REFUSED = "refused as invalid"

    @property
    def retryable(self) -> bool:
        """Whether the same request may succeed in a moment."""
        return self in (Trouble.BUSY, Trouble.CONFLICT, Trouble.UNREACHABLE, Trouble.NO_ANSWER, Trouble.SERVER)

    @property
    def of_one_object(self) -> bool:
        """Whether the next object may well go through."""
        return self in (Trouble.REFUSED, Trouble.CONFLICT)


class S3Failed(Exception):
    """A call gave no success. It may have been applied all the same, where its trouble says so."""

    def __init__(self, trouble: Trouble, operation: str, code: str) -> None:
        super().__init__(f"{operation}: {trouble} ({code})")
        self.trouble = trouble
        self.code = code


class ObjectThere(Exception):
    """412: there is an object with this key."""


class NoSuchUpload(Exception):
    """The multipart upload is not there: completed or aborted, by whomever."""


# --- opening ------------------------------------------------------------------------------------------------------


def open_s3(settings: Settings, session: boto3.session.Session | None, endpoint_url: str | None, parallel: int) -> Any:
    """A client of our own, with credentials and Region as the writer has them.

    `endpoint_url` is S3's. Where it is not given it is that of the writer, if that is not AWS's own (an emulator has
    both services at one address); else botocore's own chain decides. Raises `ConfigurationError`.
    """
    if endpoint_url is None and settings.endpoint_url is not None and not is_aws(settings.endpoint_url):
        endpoint_url = settings.endpoint_url
    config = Config(
        connect_timeout=limits.S3_CONNECT_TIMEOUT_SECONDS,
        read_timeout=limits.S3_READ_TIMEOUT_SECONDS,
        retries={"total_max_attempts": 1, "mode": "standard"},
        max_pool_connections=parallel + _SPARE_CONNECTIONS,
        user_agent_extra="reliable-write",
        # We send SHA-256 ourselves; CRC-32 beside it would be work for nothing.
        request_checksum_calculation="when_required",
        response_checksum_validation="when_required",
        s3={} if endpoint_url is None else {"addressing_style": "path"},
        proxies={} if urlsplit(endpoint_url or "").hostname in ("127.0.0.1", "localhost", "::1") else None,
    )
    try:
        if session is None:
            session = boto3.session.Session(profile_name=settings.profile, region_name=settings.region)
        return session.client("s3", region_name=settings.region, endpoint_url=endpoint_url, config=config)
    except (BotoCoreError, ValueError) as error:
        raise ConfigurationError(
            f"No S3 client can be made: {str(error).rstrip('.')}. Set, as they apply, RELIABLE_WRITE_REGION "
            "(AWS_DEFAULT_REGION), RELIABLE_WRITE_PROFILE (AWS_PROFILE) and RELIABLE_WRITE_S3_ENDPOINT_URL."
        ) from error


def adopt(client: Any) -> Any:
    """The client with our handlers on its events. Raises `ConfigurationError` for one of another service."""
    client = getattr(getattr(client, "meta", None), "client", None) or client  # a resource's
    service = getattr(getattr(getattr(client, "meta", None), "service_model", None), "service_name", None)
    if service != "s3":
        raise ConfigurationError(f"A boto3 S3 client is needed, not {service or type(client).__name__}.")
    client.meta.events.register_first("needs-retry.s3", _no_blind_retries, unique_id="reliable-write-s3-no-retries")
    return client


def _no_blind_retries(
    response: tuple[Any, dict[str, Any]] | None = None,
    caught_exception: Exception | None = None,
    operation: Any = None,
    **_: Any,
) -> None:
    """Raise what may have been applied, before botocore's own handler can send the request again."""
    if not _running.get():
        return
    if caught_exception is not None:
        raise caught_exception
    if response is not None and response[0].status_code >= _SERVER_ERROR_MIN:
        raise ClientError(response[1], operation.name)  # type: ignore[arg-type]  # the parsed answer


# --- calling ------------------------------------------------------------------------------------------------------


def call(operation: Callable[..., T], name: str, **request: Any) -> T:
    """One request. Raises `ObjectThere`, `NoSuchUpload`, `S3Failed`, never anything of botocore's."""
    with _ours():
        try:
            return operation(**request)
        except (BotoCoreError, ClientError, OSError) as error:
            raise translate(error, name) from error


@contextmanager
def _ours() -> Iterator[None]:
    token = _running.set(True)
    try:
        yield
    finally:
        _running.reset(token)


def translate(error: Exception, name: str) -> Exception:
    """Any exception of a botocore call as one of ours."""
    if not isinstance(error, ClientError):
        trouble = next(known for classes, known in _TRANSPORT if isinstance(error, classes))
        return S3Failed(trouble, name, type(error).__name__)
    code = error.response.get("Error", {}).get("Code", "")
    status = error.response.get("ResponseMetadata", {}).get("HTTPStatusCode", 0)
    if code == "PreconditionFailed" or status == 412:  # noqa: PLR2004 - HTTP
        return ObjectThere()
    if code == "NoSuchUpload":
        return NoSuchUpload()
    return S3Failed(_of_answer(code, status), name, code or f"HTTP {status}")


def _of_answer(code: str, status: int) -> Trouble:
    known = _CODES.get(code)
    if known is not None:
        return known
    if 300 <= status < 400:  # noqa: PLR2004 - HTTP
        return Trouble.NO_BUCKET
    if status in (401, 403):
        return Trouble.DENIED
    if status == 429:  # noqa: PLR2004 - HTTP
        return Trouble.BUSY
    return Trouble.SERVER if status >= _SERVER_ERROR_MIN or status == 0 else Trouble.REFUSED


_CODES: Final[dict[str, Trouble]] = {
    **dict.fromkeys(
        ("SlowDown", "Throttling", "ThrottlingException", "RequestLimitExceeded", "BandwidthLimitExceeded"),
        Trouble.BUSY,
    ),
    **dict.fromkeys(("ConditionalRequestConflict", "OperationAborted", "NoSuchKey"), Trouble.CONFLICT),
    # What did not arrive whole was not stored.
    **dict.fromkeys(("RequestTimeout", "IncompleteBody", "BadDigest"), Trouble.NO_ANSWER),
    **dict.fromkeys(("InternalError", "ServiceUnavailable"), Trouble.SERVER),
    **dict.fromkeys(
        (
            "ExpiredToken",
            "InvalidAccessKeyId",
            "InvalidToken",
            "RequestTimeTooSkewed",
            "SignatureDoesNotMatch",
            "AuthorizationHeaderMalformed",
            "TokenRefreshRequired",
        ),
        Trouble.CREDENTIALS,
    ),
    **dict.fromkeys(
        ("AccessDenied", "AllAccessDisabled", "AccountProblem", "InvalidObjectState", "KMS.DisabledException"),
        Trouble.DENIED,
    ),
    **dict.fromkeys(
        ("NoSuchBucket", "PermanentRedirect", "TemporaryRedirect", "IllegalLocationConstraintException"),
        Trouble.NO_BUCKET,
    ),
}
"""Source: S3 API Reference, "Error responses" (https://docs.aws.amazon.com/AmazonS3/latest/API/ErrorResponses.html)."""

_TRANSPORT: Final[tuple[tuple[tuple[type[Exception], ...], Trouble], ...]] = (
    (NO_CONNECTION, Trouble.UNREACHABLE),
    (NO_CREDENTIALS, Trouble.CREDENTIALS),
    ((ParamValidationError,), Trouble.REFUSED),
    ((HTTPClientError, BotoCoreError, OSError), Trouble.NO_ANSWER),
)
