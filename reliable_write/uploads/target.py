"""Where files go: a bucket, a prefix, and the key of each file. Names that S3 cannot keep are refused here, by name."""

from __future__ import annotations

import re
from collections.abc import Callable
from dataclasses import dataclass
from typing import Final

from reliable_write import limits
from reliable_write.errors import UploadRejectedError

_SCHEME: Final = "s3://"
_BUCKET: Final = re.compile(r"[a-z0-9][a-z0-9.-]{1,61}[a-z0-9]", re.ASCII)
"""Source: S3 User Guide, "General purpose bucket naming rules"."""
_NOT_IN_XML: Final = re.compile("[^\t\n\r\u0020-\ud7ff\ue000-\ufffd\U00010000-\U0010ffff]")
"""S3 tells keys in XML 1.0: what that cannot hold could be sent, and its answer could not be read."""


class NameRefused(Exception):
    """No key can be made of this name; the message says why."""


@dataclass(frozen=True, slots=True)
class Target:
    """A bucket, and what stands before the name of each file: empty, or ending in a slash."""

    bucket: str
    prefix: str

    @classmethod
    def parse(cls, url: str) -> Target:
        """`s3://bucket/prefix` as it is: nothing in it is escaped. Raises `UploadRejectedError`."""
        bucket, _, prefix = url.removeprefix(_SCHEME).partition("/")
        if not url.startswith(_SCHEME) or _BUCKET.fullmatch(bucket) is None:
            raise UploadRejectedError(f"{url!r} is no target of an upload; one looks like s3://bucket/prefix.")
        if prefix and not prefix.endswith("/"):
            prefix += "/"
        if len(prefix.encode(errors="replace")) >= limits.OBJECT_KEY_BYTES_MAX:
            raise UploadRejectedError(
                f"The prefix has {len(prefix.encode(errors='replace'))} bytes, which leaves no room for a name: a key "
                f"of S3 takes {limits.OBJECT_KEY_BYTES_MAX}."
            )
        _refuse_unkeepable(prefix, lambda why: UploadRejectedError(f"The prefix cannot be kept: {why}"))
        return cls(bucket, prefix)

    @property
    def url(self) -> str:
        """As it was given, with the slash that is added."""
        return f"{_SCHEME}{self.bucket}/{self.prefix}"

    def key(self, name: str) -> str:
        """The key of the file with this name. Raises `NameRefused`."""
        _refuse_unkeepable(name, NameRefused)
        key = self.prefix + name
        size = len(key.encode())
        if size > limits.OBJECT_KEY_BYTES_MAX:
            raise NameRefused(
                f"its key would have {size} bytes; S3 takes {limits.OBJECT_KEY_BYTES_MAX}: shorten it, or the prefix."
            )
        return key

    def address(self, key: str) -> str:
        """The object in the ledger."""
        return f"{_SCHEME}{self.bucket}/{key}"


def _refuse_unkeepable(text: str, refusal: Callable[[str], Exception]) -> None:
    try:
        text.encode()
    except UnicodeEncodeError:
        raise refusal("its name is not UTF-8: rename it.") from None
    found = _NOT_IN_XML.search(text)
    if found is not None:
        raise refusal(f"it holds the character U+{ord(found[0]):04X}, which S3 cannot tell in its answers: rename it.")
