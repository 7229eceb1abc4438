"""Settings of one process: frozen, checked when made, read from the environment only when asked.

What all processes must agree on (shards, order, stamp attributes) is not here but in the system table's config record.
"""

from __future__ import annotations

import json
import os
import re
from collections.abc import Mapping
from typing import Final, Self
from urllib.parse import urlsplit

from pydantic import (
    BaseModel,
    ConfigDict,
    Field,
    ValidationError,
    ValidationInfo,
    field_validator,
    model_validator,
)

from reliable_write import limits
from reliable_write.errors import ConfigurationError

ENVIRONMENT_PREFIX = "RELIABLE_WRITE_"


_ALIAS: Final = re.compile(r"[A-Za-z][A-Za-z0-9_-]{0,31}")
_ROLE_ARN: Final = re.compile(r"arn:[a-z-]+:iam::(\d{12}):role/[\w+=,.@/-]+")
_NO_ALIAS: Final = "arn"
"""DynamoDB takes an ARN where it takes a table's name; `arn:...` must never be read as an alias."""


class Destination(BaseModel):
    """A place where tables lie: another Region, account or endpoint. Known by an alias, the same in all processes.

    `role_arn` is assumed with this process's own credentials. What is not given is as at home, but for the endpoint:
    without one it is AWS's own.
    """

    model_config = ConfigDict(frozen=True, extra="forbid", str_strip_whitespace=True)

    region_name: str | None = Field(default=None, min_length=1)
    role_arn: str | None = Field(default=None)
    external_id: str | None = Field(default=None, min_length=2)
    endpoint_url: str | None = Field(default=None)

    @field_validator("role_arn")
    @classmethod
    def _is_role(cls, given: str | None) -> str | None:
        if given is not None and _ROLE_ARN.fullmatch(given) is None:
            raise ValueError(f"{given!r} is no role's ARN; one looks like arn:aws:iam::123456789012:role/writer")
        return given

    @field_validator("endpoint_url")
    @classmethod
    def _is_url(cls, given: str | None) -> str | None:
        if given is not None and (not given.startswith(("http://", "https://")) or not urlsplit(given).hostname):
            raise ValueError(f"{given!r} is no endpoint; one looks like http://127.0.0.1:8000")
        return given

    @model_validator(mode="after")
    def _is_elsewhere(self) -> Self:
        if self.region_name is None and self.role_arn is None and self.endpoint_url is None:
            raise ValueError("a destination names a region_name, a role_arn or an endpoint_url")
        if self.external_id is not None and self.role_arn is None:
            raise ValueError("external_id goes with a role_arn")
        return self


def split_alias(table: str) -> tuple[str | None, str]:
    """`eu:orders` as alias and name; None for a table at home."""
    alias, colon, name = table.partition(":")
    return (alias, name) if colon and alias != _NO_ALIAS else (None, table)


def joined_alias(alias: str | None, table: str) -> str:
    """The name of a table as scopes and entries have it."""
    return table if alias is None else f"{alias}:{table}"


def account_of(role_arn: str) -> str:
    """The account a role lies in."""
    return role_arn.split(":")[4]


def same_place_refusal(
    destinations: Mapping[str, Destination], region: str | None, endpoint_url: str | None
) -> str | None:
    """Why these cannot be told apart from each other or from home (its Region and endpoint); None if they can.

    Two names of one table would have two tombstones for one key, and a delete under one name would not hold back a
    late put under the other. Accounts are told apart by their roles; whether a role leads home nobody can tell.
    """
    names: dict[tuple[str | None, str | None, str | None], str] = {}
    names[(region, _own_endpoint(endpoint_url), None)] = "the system table"
    for alias, place in destinations.items():
        account = None if place.role_arn is None else account_of(place.role_arn)
        what = (place.region_name or region, _own_endpoint(place.endpoint_url), account)
        if what in names:
            return f"{alias!r} leads to where {names[what]} is: keep one name for each place"
        names[what] = repr(alias)
    return None


def _own_endpoint(url: str | None) -> str | None:
    """An endpoint that is not AWS's; all of AWS's lead to the same tables."""
    if url is None:
        return None
    parts = urlsplit(url)
    host = parts.hostname or ""
    if host.endswith((".amazonaws.com", ".amazonaws.com.cn", ".api.aws")):
        return None
    return f"{host}:{parts.port or parts.scheme}{parts.path.rstrip('/')}"


class Settings(BaseModel):
    """How this process reaches DynamoDB and how patient it is. Every field is also `RELIABLE_WRITE_<FIELD>`."""

    model_config = ConfigDict(frozen=True, extra="forbid", str_strip_whitespace=True, allow_inf_nan=False)

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
    connect_timeout_seconds: float = Field(
        default=limits.CONNECT_TIMEOUT_SECONDS, gt=0, le=60, description="Of one request."
    )
    read_timeout_seconds: float = Field(default=limits.READ_TIMEOUT_SECONDS, gt=0, description="Of one request.")
    propagation_threads: int = Field(
        default=limits.PROPAGATION_THREADS, ge=1, le=256, description="Parallel requests of one writer."
    )
    delete_finished_inline: bool = Field(
        default_factory=lambda: "AWS_LAMBDA_FUNCTION_NAME" in os.environ,
        description="Delete a finished entry before commit() returns; for places that freeze threads, such as Lambda.",
    )
    consistent_reads: bool = Field(
        default=False, description="Whether record stores read consistently where no scope says otherwise."
    )

    destinations: dict[str, Destination] = Field(
        default_factory=dict,
        description="Other Regions, accounts and endpoints by alias, as JSON: "
        '`{"eu": {"region_name": "eu-west-1"}}`. A table there is `eu:orders`.',
    )

    @field_validator("endpoint_url")
    @classmethod
    def _can_be_split(cls, given: str | None) -> str | None:
        """Raises `ValueError` for a port that is none, which botocore would find only when it sends."""
        _ = urlsplit(given or "").port
        return given

    @field_validator("destinations", mode="before")
    @classmethod
    def _read_json(cls, given: object) -> object:
        if not isinstance(given, str):
            return given
        try:
            return json.loads(given)
        except ValueError as error:
            raise ValueError(f"not JSON: {error}") from error
        except RecursionError:
            raise ValueError("not JSON that one would write: nested too deep") from None

    @field_validator("destinations")
    @classmethod
    def _aliases_fit(cls, given: dict[str, Destination], info: ValidationInfo) -> dict[str, Destination]:
        for alias in given:
            if alias == _NO_ALIAS or _ALIAS.fullmatch(alias) is None:
                raise ValueError(
                    f"{alias!r} is no alias: 1 to 32 letters, digits, - and _, a letter first, and not {_NO_ALIAS!r}"
                )
        refusal = same_place_refusal(given, info.data.get("region"), info.data.get("endpoint_url"))
        if refusal is not None:
            raise ValueError(refusal)
        return given

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
        lines.append(f"{shown}: {told(problem['loc'], problem['msg'])}")
    return printable("Settings are not usable: " + "; ".join(lines) + ".")


def printable(text: str) -> str:
    """Text for a message: what came from outside must not move a terminal's cursor, nor begin a line of a log."""
    return text if text.isprintable() else "".join(map(printable_mark, text))


def printable_mark(mark: str) -> str:
    r"""One character as it is, or as `\x1b`."""
    return mark if mark.isprintable() else mark.encode("unicode_escape").decode()


def told(place: tuple[int | str, ...], message: str) -> str:
    """What is wrong, and where inside of the setting: `eu.role_arn: ...`."""
    inside, message = ".".join(map(str, place[1:])), message.removeprefix("Value error, ")
    return f"{inside}: {message}" if inside else message
