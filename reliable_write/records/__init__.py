"""Items as pydantic models: keys, versions and aliases said once in a class, checked when the class is made."""

from reliable_write.records.constraints import Constraint
from reliable_write.records.fields import FloatAs, HashKey, RangeKey, Version, VersionMode
from reliable_write.records.layout import KeyField, Layout, VersionField
from reliable_write.records.model import Record
from reliable_write.records.reading import RecordLook
from reliable_write.records.store import RecordStore

__all__ = [
    "Constraint",
    "FloatAs",
    "HashKey",
    "KeyField",
    "Layout",
    "RangeKey",
    "Record",
    "RecordLook",
    "RecordStore",
    "Version",
    "VersionField",
    "VersionMode",
]
