"""A bucket in memory that keeps every version, and the S3 client of one process before it.

It knows the requests that uploads make and refuses all others: conditional puts, checksums of what arrives, multipart
uploads, lists in pages. `tests/proof/test_rooms.py` puts the same questions to it and to an engine with S3.
"""

from __future__ import annotations

import base64
import datetime as dt
import hashlib
import io
import itertools
from collections import Counter, defaultdict
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from email.utils import format_datetime
from types import SimpleNamespace
from typing import Any, Final, Protocol

from botocore.exceptions import ClientError, ReadTimeoutError
from botocore.response import StreamingBody

from reliable_write.clock import Deadline, TimeSource
from reliable_write.dynamodb import CallFailed
from reliable_write.policy import FailureKind

PAGE_PARTS: Final = 2
"""Parts told by one answer."""


class Refused(CallFailed):
    """What S3 answers for certain."""

    def __init__(self, code: str, status: int) -> None:
        super().__init__(FailureKind.VALIDATION, code, None)
        self.status = status
        self.answer = code


@dataclass(frozen=True)
class Stored:
    """One version of an object."""

    data: bytes
    metadata: Mapping[str, str]
    etag: str


@dataclass
class Pending:
    """A multipart upload."""

    key: str
    metadata: Mapping[str, str]
    begun: dt.datetime
    parts: dict[int, tuple[str, bytes]] = field(default_factory=dict)


class MemoryBucket:
    """One bucket; each request is one atomic step."""

    def __init__(self, time: TimeSource) -> None:
        self._time = time
        self._ids = itertools.count(1)
        self.stored: defaultdict[str, list[Stored]] = defaultdict(list)
        self.pending: dict[str, Pending] = {}

    def versions(self) -> Counter[str]:
        """How often each key was put."""
        return Counter({key: len(versions) for key, versions in self.stored.items()})

    def apply(self, call: str, request: Mapping[str, Any]) -> dict[str, Any]:
        """Let a request land."""
        answer: dict[str, Any] = getattr(self, f"_{call}")(request)
        return answer

    def _now(self) -> dt.datetime:
        return dt.datetime.fromtimestamp(self._time.wall_seconds(), dt.UTC)

    def _check_absent(self, request: Mapping[str, Any]) -> None:
        if request.get("IfNoneMatch") == "*" and self.stored.get(request["Key"]):
            raise Refused("PreconditionFailed", 412)

    def _latest(self, request: Mapping[str, Any], code: str) -> Stored:
        if not self.stored.get(request["Key"]):
            raise Refused(code, 404)
        return self.stored[request["Key"]][-1]

    def _upload(self, request: Mapping[str, Any]) -> Pending:
        found = self.pending.get(request["UploadId"])
        if found is None or found.key != request["Key"]:
            raise Refused("NoSuchUpload", 404)
        return found

    def _put_object(self, request: Mapping[str, Any]) -> dict[str, Any]:
        _check_digest(request)
        self._check_absent(request)
        stored = Stored(request["Body"], request["Metadata"], f'"{next(self._ids)}"')
        self.stored[request["Key"]].append(stored)
        return {"ETag": stored.etag}

    def _head_object(self, request: Mapping[str, Any]) -> dict[str, Any]:
        found = self._latest(request, "404")
        return {"ContentLength": len(found.data), "Metadata": dict(found.metadata), "ETag": found.etag}

    def _get_object(self, request: Mapping[str, Any]) -> dict[str, Any]:
        found = self._latest(request, "NoSuchKey")
        if request.get("IfMatch", found.etag) != found.etag:
            raise Refused("PreconditionFailed", 412)
        return {"Body": StreamingBody(io.BytesIO(found.data), len(found.data))}

    def _create_multipart_upload(self, request: Mapping[str, Any]) -> dict[str, Any]:
        upload = f"upload-{next(self._ids)}"
        self.pending[upload] = Pending(request["Key"], request["Metadata"], self._now())
        return {"UploadId": upload}

    def _upload_part(self, request: Mapping[str, Any]) -> dict[str, Any]:
        _check_digest(request)
        etag = f'"{next(self._ids)}"'
        self._upload(request).parts[request["PartNumber"]] = (etag, request["Body"])
        return {"ETag": etag, "ChecksumSHA256": request["ChecksumSHA256"]}

    def _list_parts(self, request: Mapping[str, Any]) -> dict[str, Any]:
        parts = sorted(self._upload(request).parts.items())
        after = [part for part in parts if part[0] > request["PartNumberMarker"]]
        page = after[:PAGE_PARTS]
        told = [
            {"PartNumber": number, "ETag": etag, "Size": len(data), "ChecksumSHA256": _digest(data)}
            for number, (etag, data) in page
        ]
        if len(after) <= PAGE_PARTS:
            return {"Parts": told, "IsTruncated": False}
        return {"Parts": told, "IsTruncated": True, "NextPartNumberMarker": page[-1][0]}

    def _complete_multipart_upload(self, request: Mapping[str, Any]) -> dict[str, Any]:
        upload = self._upload(request)
        self._check_absent(request)
        data = b""
        for part in request["MultipartUpload"]["Parts"]:
            etag, content = upload.parts.get(part["PartNumber"], ("", b""))
            if etag != part["ETag"]:
                raise Refused("InvalidPart", 400)
            data += content
        stored = Stored(data, upload.metadata, f'"{next(self._ids)}-1"')
        self.stored[request["Key"]].append(stored)
        del self.pending[request["UploadId"]]
        return {"ETag": stored.etag}

    def _abort_multipart_upload(self, request: Mapping[str, Any]) -> dict[str, Any]:
        self._upload(request)
        del self.pending[request["UploadId"]]
        return {}

    def _list_multipart_uploads(self, request: Mapping[str, Any]) -> dict[str, Any]:
        found = [
            {"Key": pending.key, "UploadId": upload, "Initiated": pending.begun}
            for upload, pending in self.pending.items()
            if pending.key.startswith(request["Prefix"])
        ]
        date = format_datetime(self._now(), usegmt=True)
        return {"Uploads": found, "IsTruncated": False, "ResponseMetadata": {"HTTPHeaders": {"date": date}}}


class Sends(Protocol):
    """The wire of a process."""

    def send(self, call: Any, request: Mapping[str, Any], deadline: Deadline) -> dict[str, Any]: ...


class MemoryS3:
    """As much of a boto3 client as uploads need: what goes wrong on the wire comes out as botocore tells it."""

    def __init__(self, wire: Sends, time: TimeSource, after_each: Callable[[str], None] = lambda _call: None) -> None:
        self._wire = wire
        self._time = time
        self._after_each = after_each
        events = SimpleNamespace(register_first=lambda *_args, **_more: None)
        self.meta = SimpleNamespace(service_model=SimpleNamespace(service_name="s3"), events=events)

    def __getattr__(self, call: str) -> Callable[..., dict[str, Any]]:
        if call.startswith("_") or not hasattr(MemoryBucket, f"_{call}"):
            raise AttributeError(call)
        return lambda **request: self._send(call, request)

    def _send(self, call: str, request: dict[str, Any]) -> dict[str, Any]:
        try:
            answer = self._wire.send(call, request, Deadline.after(3600.0, self._time))
        except CallFailed as failure:
            raise _told(failure, call) from failure
        self._after_each(call)
        return answer


_ANSWERS: Final = {
    FailureKind.SERVER: ("InternalError", 500),
    FailureKind.THROTTLED: ("SlowDown", 503),
    FailureKind.CONFLICT: ("ConditionalRequestConflict", 409),
    FailureKind.ACCESS_DENIED: ("AccessDenied", 403),
}


def _told(failure: CallFailed, call: str) -> Exception:
    if failure.kind is FailureKind.TIMEOUT:
        return ReadTimeoutError(endpoint_url="memory")
    code, status = (failure.answer, failure.status) if isinstance(failure, Refused) else _ANSWERS[failure.kind]
    answer: Any = {"Error": {"Code": code, "Message": ""}, "ResponseMetadata": {"HTTPStatusCode": status}}
    return ClientError(answer, call)


def _check_digest(request: Mapping[str, Any]) -> None:
    if _digest(request["Body"]) != request["ChecksumSHA256"]:
        raise Refused("BadDigest", 400)


def _digest(data: bytes) -> str:
    return base64.b64encode(hashlib.sha256(data).digest()).decode()
