"""How engines say no."""

from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any

import pytest
from botocore.exceptions import ClientError

CONDITION_FAILED = "ConditionalCheckFailedException"
INVALID = "ValidationException"
NO_TABLE = "ResourceNotFoundException"
TABLE_IN_USE = "ResourceInUseException"
CANCELLED = "TransactionCanceledException"


class Refusal:
    """What the refused call answered; filled when its block is left."""

    response: Any

    @property
    def old_item(self) -> Any:
        return self.response.get("Item")

    @property
    def reason_codes(self) -> list[str]:
        return [reason["Code"] for reason in self.response["CancellationReasons"]]


@contextmanager
def refused(code: str) -> Iterator[Refusal]:
    """Expect a `ClientError` of this code with status 400, and hand out its response."""
    refusal = Refusal()
    with pytest.raises(ClientError) as caught:
        yield refusal
    refusal.response = caught.value.response
    assert refusal.response["Error"]["Code"] == code, refusal.response["Error"]
    assert refusal.response["ResponseMetadata"]["HTTPStatusCode"] == 400
