"""Items as pydantic models: keys, versions and aliases said once in a class, checked when the class is made."""

from reliable_write.records.fields import FloatAs, HashKey, RangeKey, Version, VersionMode
from reliable_write.records.layout import KeyField, Layout, VersionField
from reliable_write.records.model import Record

__all__ = [
    "FloatAs",
    "HashKey",
    "KeyField",
    "Layout",
    "RangeKey",
    "Record",
    "Version",
    "VersionField",
    "VersionMode",
]
