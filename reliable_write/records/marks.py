"""Deletion marks: what lies under the key of a deleted shared record for a while, so that others hear of it.

A mark is an ordinary item: the key, the next version, and `_rwd`, the second since 1970 up to which others are told.
A table may have its TTL on `_rwd`, but nothing leans on that: TTL is no timer, so the time is looked at here. A mark
that has outlived it is no more than an absent item, but its version still counts: a record made over it goes on from
there, so that what somebody holds of the old object can never be written over the new one.
"""

from __future__ import annotations

import math
from collections.abc import Mapping
from typing import Any, Final

DELETED_ATTRIBUTE: Final = "_rwd"


def mark(told_until_seconds: float) -> dict[str, Any]:
    """What makes an item a mark, beside key and version."""
    return {DELETED_ATTRIBUTE: math.ceil(told_until_seconds)}


def is_marked(item: Mapping[str, Any]) -> bool:
    """Whether an item, as the wire has it or as Python values, says that there is no record."""
    return DELETED_ATTRIBUTE in item


def is_told(item: Mapping[str, Any], now_seconds: float) -> bool:
    """Whether those who ask are still told that there was a record here; `now_seconds` is since 1970."""
    return is_marked(item) and now_seconds < item[DELETED_ATTRIBUTE]
