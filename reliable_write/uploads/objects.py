"""The narrow room that speaks to S3: the calls that uploads make, each one request, each safe to send again.

What makes an object is conditional on there being none (`If-None-Match: *`), on PutObject and on
CompleteMultipartUpload. So however late, doubled or lost a request is, a key gets one object, and none is replaced.
"""

from __future__ import annotations

import base64
import datetime as dt
import hashlib
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from email.utils import parsedate_to_datetime
from typing import Any, Final
from urllib.parse import unquote_plus

from reliable_write import limits
from reliable_write.uploads.s3 import ObjectThere, S3Failed, Trouble, call

SHA256_METADATA: Final = "reliable-write-sha256"
ATTEMPT_METADATA: Final = "reliable-write-attempt"
ONLY_IF_ABSENT: Final = "*"
_ABSENT: Final = ("404", "NoSuchKey")
_READ_BYTES: Final = limits.MB


@dataclass(frozen=True, slots=True)
class ObjectFound:
    """An object that is there."""

    size: int
    sha256: str | None
    """Of its content, hexadecimal; None where neither we nor S3 has noted it."""
    attempt: str | None
    """Which of our attempts made it; None for somebody else's."""
    etag: str


@dataclass(frozen=True, slots=True)
class PartFound:
    """A part that S3 has."""

    etag: str
    size: int
    sha256: bytes | None
    """None where S3 was not given one."""


@dataclass(frozen=True, slots=True)
class PendingUpload:
    """A multipart upload that is neither completed nor aborted."""

    key: str
    id: str
    age_seconds: float
    """By S3's own clock."""


class Objects:
    """One bucket, through one client. Every method raises `S3Failed` where there is no success."""

    def __init__(self, client: Any, bucket: str) -> None:
        self._client = client
        self._bucket = bucket

    def put(self, key: str, data: bytes, sha256: str, attempt: str) -> None:
        """The object, in one request. Raises `ObjectThere`."""
        self._call(
            "put_object",
            Key=key,
            Body=data,
            IfNoneMatch=ONLY_IF_ABSENT,
            ChecksumSHA256=_in_base64(bytes.fromhex(sha256)),
            Metadata=_metadata(sha256, attempt),
        )

    def head(self, key: str) -> ObjectFound | None:
        """What is there; None where nothing is."""
        try:
            answer = self._call("head_object", Key=key, ChecksumMode="ENABLED")
        except S3Failed as failure:
            if failure.code in _ABSENT:
                return None
            raise
        metadata = answer.get("Metadata", {})
        return ObjectFound(
            size=answer["ContentLength"],
            sha256=metadata.get(SHA256_METADATA) or _whole_sha256(answer),
            attempt=metadata.get(ATTEMPT_METADATA),
            etag=answer["ETag"],
        )

    def digest(self, key: str, etag: str) -> str | None:
        """The SHA-256 of an object that nobody has noted one for, by reading it; None if it is another one by now."""
        try:
            return call(self._digest, "get_object", Bucket=self._bucket, Key=key, IfMatch=etag)
        except ObjectThere:  # 412: with another ETag
            return None
        except S3Failed as failure:
            if failure.code in _ABSENT:
                return None
            raise

    def _digest(self, **request: Any) -> str:
        digest = hashlib.sha256()
        for piece in self._client.get_object(**request)["Body"].iter_chunks(_READ_BYTES):
            digest.update(piece)
        return digest.hexdigest()

    # --- in parts -----------------------------------------------------------------------------------------------

    def begin(self, key: str, sha256: str, attempt: str) -> str:
        """A new multipart upload; its id."""
        answer = self._call(
            "create_multipart_upload", Key=key, ChecksumAlgorithm="SHA256", Metadata=_metadata(sha256, attempt)
        )
        return str(answer["UploadId"])

    def put_part(self, key: str, upload: str, number: int, data: bytes, sha256: bytes) -> PartFound:
        """One part, in place of the one with this number if there is one. Raises `NoSuchUpload`."""
        checksum = _in_base64(sha256)
        answer = self._call(
            "upload_part", Key=key, UploadId=upload, PartNumber=number, Body=data, ChecksumSHA256=checksum
        )
        return PartFound(answer["ETag"], len(data), _from_base64(answer.get("ChecksumSHA256")))

    def parts(self, key: str, upload: str) -> dict[int, PartFound]:
        """All parts S3 has, by number. Raises `NoSuchUpload`."""
        found: dict[int, PartFound] = {}
        marker = 0
        while True:
            answer = self._call("list_parts", Key=key, UploadId=upload, PartNumberMarker=marker)
            for part in answer.get("Parts", []):
                found[part["PartNumber"]] = PartFound(
                    part["ETag"], part["Size"], _from_base64(part.get("ChecksumSHA256"))
                )
            if not answer.get("IsTruncated"):
                return found
            marker = answer["NextPartNumberMarker"]

    def complete(self, key: str, upload: str, parts: Mapping[int, PartFound]) -> None:
        """Make the object of its parts. Raises `ObjectThere`, `NoSuchUpload`."""
        self._call(
            "complete_multipart_upload",
            Key=key,
            UploadId=upload,
            MultipartUpload={"Parts": [_part(number, parts[number]) for number in sorted(parts)]},
            IfNoneMatch=ONLY_IF_ABSENT,
        )

    def abort(self, key: str, upload: str) -> None:
        """Give its parts up. Raises `NoSuchUpload`."""
        self._call("abort_multipart_upload", Key=key, UploadId=upload)

    def pending(self, prefix: str) -> Iterator[PendingUpload]:
        """All multipart uploads under a prefix that are under way or left behind."""
        marker: dict[str, Any] = {}
        while True:
            answer = self._call("list_multipart_uploads", Prefix=prefix, EncodingType="url", **marker)
            plain = unquote_plus if answer.get("EncodingType") == "url" else str
            for upload in answer.get("Uploads", []):
                yield PendingUpload(plain(upload["Key"]), upload["UploadId"], _age_seconds(upload["Initiated"], answer))
            if not answer.get("IsTruncated"):
                return
            marker = {"KeyMarker": plain(answer["NextKeyMarker"]), "UploadIdMarker": answer["NextUploadIdMarker"]}

    def _call(self, name: str, **request: Any) -> dict[str, Any]:
        answer: dict[str, Any] = call(getattr(self._client, name), name, Bucket=self._bucket, **request)
        return answer


def _metadata(sha256: str, attempt: str) -> dict[str, str]:
    return {SHA256_METADATA: sha256, ATTEMPT_METADATA: attempt}


def _part(number: int, part: PartFound) -> dict[str, Any]:
    named: dict[str, Any] = {"PartNumber": number, "ETag": part.etag}
    return named if part.sha256 is None else {**named, "ChecksumSHA256": _in_base64(part.sha256)}


def _whole_sha256(answer: Mapping[str, Any]) -> str | None:
    """S3's own checksum, where it is one of the content: that of a multipart upload is one of its parts' checksums."""
    digest = None if answer.get("ChecksumType") == "COMPOSITE" else _from_base64(answer.get("ChecksumSHA256"))
    return None if digest is None else digest.hex()


def _in_base64(digest: bytes) -> str:
    return base64.b64encode(digest).decode()


def _from_base64(text: str | None) -> bytes | None:
    return None if text is None or "-" in text else base64.b64decode(text)


def _age_seconds(initiated: dt.datetime, answer: Mapping[str, Any]) -> float:
    """By the date of the answer, which has whole seconds: our clock has no say in what is old."""
    date = answer["ResponseMetadata"]["HTTPHeaders"].get("date")
    if date is None:
        raise S3Failed(Trouble.REFUSED, "list_multipart_uploads", "no date in the answer")
    return max(0.0, (parsedate_to_datetime(date) - initiated).total_seconds())
