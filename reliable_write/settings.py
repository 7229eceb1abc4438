"""Settings of one process: frozen, checked when made, read from the environment only when asked.

What all processes must agree on (shards, order, stamp attributes) is not here but in the system table's config record.
"""

from __future__ import annotations

import os
from collections.abc import Mapping
from typing import Self

from pydantic import BaseModel, ConfigDict, Field, ValidationError, model_validator

from reliable_write import limits
from reliable_write.errors import ConfigurationError

ENVIRONMENT_PREFIX = "RELIABLE_WRITE_"


class Settings(BaseModel):
    """How this process reaches DynamoDB and how patient it is. Every field is also `RELIABLE_WRITE_<FIELD>`."""

    model_config = ConfigDict(frozen=True, extra="forbid", str_strip_whitespace=True)

    system_table: str = Field(
        default="reliable_write",
        min_length=limits.TABLE_NAME_CHARACTERS_MIN,
        max_length=limits.TABLE_NAME_CHARACTERS_MAX,
        pattern=r"^[A-Za-z0-9_.-]+$",
        description="The table of the journal; one for all writers and monitors of the same items.",
    )
    region: str | None = Field(
        default=None, min_length=1, description="AWS Region; botocore's own chain where not given."
    )
    profile: str | None = Field(default=None, min_length=1, description="Profile of the AWS configuration files.")
    endpoint_url: str | None = Field(
        default=None, min_length=1, description="Another endpoint, such as ScyllaDB Alternator's."
    )
    attempt_deadline_seconds: float = Field(
        default=limits.ATTEMPT_DEADLINE_SECONDS,
        gt=0,
        lt=limits.LEASE_SECONDS,
        description="How long one commit may send requests; it answers within this plus one read timeout.",
    )
    connect_timeout_seconds: float = Field(default=limits.CONNECT_TIMEOUT_SECONDS, gt=0, description="Of one request.")
    read_timeout_seconds: float = Field(default=limits.READ_TIMEOUT_SECONDS, gt=0, description="Of one request.")
    propagation_threads: int = Field(
        default=limits.PROPAGATION_THREADS, ge=1, le=256, description="Parallel requests of one writer."
    )
    delete_finished_inline: bool = Field(
        default_factory=lambda: "AWS_LAMBDA_FUNCTION_NAME" in os.environ,
        description="Delete a finished entry before commit() returns; for places that freeze threads, such as Lambda.",
    )

    @model_validator(mode="after")
    def _timeouts_fit(self) -> Self:
        if self.read_timeout_seconds > self.attempt_deadline_seconds:
            raise ValueError(
                "read_timeout_seconds is longer than attempt_deadline_seconds: no request could be retried"
            )
        return self

    @property
    def attempt_seconds_max(self) -> float:
        """The longest an attempt at an entry and the note of what became of it may take, each with an answer that is
        waited for to the last.
        """
        return 2 * (self.attempt_deadline_seconds + self.connect_timeout_seconds + self.read_timeout_seconds)

    @classmethod
    def from_environment(cls, environment: Mapping[str, str] | None = None, **given: object) -> Settings:
        """Settings from `RELIABLE_WRITE_*`, under what is given here. Raises `ConfigurationError`."""
        source = os.environ if environment is None else environment
        found = {
            name: source[ENVIRONMENT_PREFIX + name.upper()]
            for name in cls.model_fields
            if source.get(ENVIRONMENT_PREFIX + name.upper())
        }
        try:
            return cls(**{**found, **given})  # type: ignore[arg-type]  # pydantic checks what the environment says
        except ValidationError as error:
            raise ConfigurationError(_explain(error, set(given))) from error


def _explain(error: ValidationError, given: set[str]) -> str:
    """One line per wrong setting, by the name under which the user set it."""
    lines = []
    for problem in error.errors(include_url=False, include_input=False):
        name = str(problem["loc"][0]) if problem["loc"] else "settings"
        shown = name if name in given or not problem["loc"] else ENVIRONMENT_PREFIX + name.upper()
        lines.append(f"{shown}: {problem['msg']}")
    return "Settings are not usable: " + "; ".join(lines) + "."
