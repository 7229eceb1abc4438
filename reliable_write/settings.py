"""Settings of one process: frozen, checked when made, read from the environment only when asked.

What all processes must agree on (shards, order, stamp attributes) is not here but in the system table's config record.
"""

from __future__ import annotations

import json
import os
from collections.abc import Mapping
from typing import Annotated, Self

from pydantic import BaseModel, ConfigDict, Field, ValidationError, field_validator, model_validator

from reliable_write import limits
from reliable_write.errors import ConfigurationError

ENVIRONMENT_PREFIX = "RELIABLE_WRITE_"


ALIAS_PATTERN = r"^[A-Za-z][A-Za-z0-9_-]{0,31}$"


class Destination(BaseModel):
    """A place where tables lie: another Region, account or endpoint. Known by an alias, the same in all processes.

    `role_arn` is assumed with this process's own credentials. What is not given is as at home, but for the endpoint:
    without one it is AWS's own.
    """

    model_config = ConfigDict(frozen=True, extra="forbid", str_strip_whitespace=True)

    region_name: str | None = Field(default=None, min_length=1)
    role_arn: str | None = Field(default=None, pattern=r"^arn:[^:]+:iam::\d{12}:role/.+$")
    external_id: str | None = Field(default=None, min_length=2)
    endpoint_url: str | None = Field(default=None, min_length=1)

    @model_validator(mode="after")
    def _is_elsewhere(self) -> Self:
        if self.region_name is None and self.role_arn is None and self.endpoint_url is None:
            raise ValueError("a destination names a region_name, a role_arn or an endpoint_url")
        return self


def split_alias(table: str) -> tuple[str | None, str]:
    """`eu:orders` as alias and name; None for a table at home."""
    alias, colon, name = table.partition(":")
    return (alias, name) if colon else (None, table)


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

    destinations: dict[Annotated[str, Field(pattern=ALIAS_PATTERN)], Destination] = Field(
        default_factory=dict,
        description="Other Regions, accounts and endpoints by alias, as JSON: "
        '`{"eu": {"region_name": "eu-west-1"}}`. A table there is `eu:orders`.',
    )

    @field_validator("destinations", mode="before")
    @classmethod
    def _read_json(cls, given: object) -> object:
        if not isinstance(given, str):
            return given
        try:
            return json.loads(given)
        except ValueError as error:
            raise ValueError(f"not JSON: {error}") from error

    @model_validator(mode="after")
    def _places_differ(self) -> Self:
        """Two names of one table would have two tombstones for one key."""
        places = list(self.destinations.values())
        home = Destination.model_construct(region_name=self.region, endpoint_url=self.endpoint_url)
        for index, place in enumerate(places):
            if place in places[:index] or (place == home and self.region is not None):
                raise ValueError("two destinations are one place, or one is where the system table is; keep one name")
        return self

    @model_validator(mode="after")
    def _timeouts_fit(self) -> Self:
        if self.read_timeout_seconds > self.attempt_deadline_seconds:
            raise ValueError(
                "read_timeout_seconds is longer than attempt_deadline_seconds: no request could be retried"
            )
        return self

    def with_destinations(self, destinations: Mapping[str, Destination]) -> Settings:
        """These settings with these destinations beside its own. Raises `ConfigurationError`."""
        merged = {**self.destinations, **destinations}
        try:
            return Settings(**{**self.model_dump(exclude={"destinations"}), "destinations": merged})
        except ValidationError as error:
            raise ConfigurationError(_explain(error, {"destinations"})) from error

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
