"""The data beside a lock: any value DynamoDB holds, which others may read without holding the lock."""

from __future__ import annotations

from typing import Any

from boto3.dynamodb.types import Binary

from reliable_write import limits
from reliable_write.errors import WriteTooLargeError
from reliable_write.values import AttributeValue, encode_item, item_bytes


def encode_data(data: Any) -> AttributeValue:
    """As the wire has it. Raises `InvalidItemError` with the path, or `WriteTooLargeError`."""
    encoded = encode_item({"data": data}, "lock")
    size = item_bytes(encoded)
    if size > limits.LOCK_DATA_BYTES_MAX:
        raise WriteTooLargeError(
            f"The data beside a lock have {size} bytes; it takes {limits.LOCK_DATA_BYTES_MAX}, since every heartbeat "
            "pays for them. Put them into an item of their own, and its key here."
        )
    return encoded["data"]


def plain(value: Any) -> Any:
    """With `bytes` where boto3 has its own class for them."""
    if isinstance(value, Binary):
        return bytes(value)  # type: ignore[call-overload]  # it has __bytes__; the stubs forgot
    if isinstance(value, list):
        return [plain(part) for part in value]
    if isinstance(value, dict):
        return {name: plain(part) for name, part in value.items()}
    return {plain(part) for part in value} if isinstance(value, set) else value
