"""Settings of the daemon, and where each of them came from.

A flag wins over the environment (`RELIABLE_WRITE_MONITOR_POLL_SECONDS`; `RELIABLE_WRITE_REGION` for those of the
library), that over the TOML file (`[monitor]`, `[writer]`), that over the default.
"""

from __future__ import annotations

import os
import tomllib
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Annotated, Any, Final, Literal, TypeVar

from pydantic import AfterValidator, BaseModel, ConfigDict, Field, ValidationError

from reliable_write import limits
from reliable_write.errors import ConfigurationError
from reliable_write.settings import ENVIRONMENT_PREFIX, Settings, printable, told

MONITOR_PREFIX: Final = ENVIRONMENT_PREFIX + "MONITOR_"
CONFIG_VARIABLE: Final = MONITOR_PREFIX + "CONFIG"
"""Names the TOML file where no flag does."""

Origin = Literal["flag", "environment", "file", "default"]


def _host(given: str) -> str:
    """What a socket takes: names as the DNS has them (RFC 1035, 2.3.4), and addresses."""
    try:
        given.encode("idna")
    except UnicodeError:
        is_one = False
    else:
        is_one = given.isprintable() and " " not in given
    if not is_one:
        raise ValueError(f"{given[:80]!r} is no host name and no address; one looks like 127.0.0.1")
    return given


class MonitorSettings(BaseModel):
    """How this monitor works. Every field is also `RELIABLE_WRITE_MONITOR_<FIELD>` and a key of `[monitor]`."""

    model_config = ConfigDict(frozen=True, extra="forbid", str_strip_whitespace=True, allow_inf_nan=False)

    poll_seconds: float = Field(
        default=limits.MONITOR_POLL_SECONDS, gt=0, le=3600, description="From one look at the journal to the next."
    )
    lease_seconds: float = Field(
        default=limits.LEASE_SECONDS,
        gt=0,
        le=3600,
        description="An entry seen unchanged for this long is a straggler; longer than an attempt's deadline.",
    )
    workers: int = Field(default=16, ge=1, le=256, description="Entries worked on at once.")
    readers: int = Field(default=8, ge=1, le=64, description="Shards read at once, and one by the sweep itself.")
    tracked_max: int = Field(
        default=200_000,
        ge=1,
        description="Pending entries remembered between looks; bounds memory. Others are judged by their age.",
    )
    drain_seconds: float = Field(
        default=25.0,
        gt=0,
        le=3600,
        description="How long a stop waits for what is under way; five less than Kubernetes gives.",
    )
    heartbeat_seconds: float = Field(
        default=limits.HEARTBEAT_SECONDS,
        gt=0,
        lt=limits.HEARTBEAT_ALIVE_SECONDS,
        description="From one sign of life to the next.",
    )
    breaker_failures: int = Field(
        default=5, ge=1, description="Attempts in a row that fail on a table before it is left alone for a while."
    )
    breaker_base_seconds: float = Field(
        default=2.0, gt=0, le=3600, description="First pause of a table that is left alone."
    )
    breaker_cap_seconds: float = Field(
        default=15.0, gt=0, le=3600, description="Longest such pause; then one entry tries it."
    )
    one_shot: bool = Field(
        default=False, description="One look, for scheduled runs: entries four leases old, by the wall clock."
    )
    schedule_seconds: float = Field(
        default=300.0,
        gt=0,
        le=limits.HEARTBEAT_KEPT_SECONDS / 2,
        description="From one scheduled run to the next, as far as is known here: services take it for granted that a "
        "monitor is there for twice as long after each.",
    )
    audit: bool = Field(default=True, description="Audit and collect tombstones, receipts and chunks.")
    audit_seconds: float = Field(default=60.0, gt=0, le=86_400, description="From one audit to the next.")
    receipt_retention_seconds: float = Field(
        default=limits.RECEIPT_RETENTION_SECONDS,
        ge=limits.RECEIPT_RETENTION_SECONDS_MIN,
        le=3660 * 86_400,
        description="How long a receipt is kept at least: so long an idempotency key gives the same write.",
    )
    gc: bool | None = Field(
        default=None,
        description="Collect what nobody needs any more. Not given: at AWS's own endpoints. It must be false where the "
        "engine checks no signatures, for requests that do not age could undo a delete: emulators, and Alternator "
        "without authorization.",
    )
    http_host: Annotated[str, AfterValidator(_host)] = Field(
        default="127.0.0.1", description="Where /livez, /readyz and /metrics answer."
    )
    http_port: int = Field(default=9464, ge=0, le=65535, description="0: none.")
    log_format: Literal["json", "console"] = Field(default="json", description="How log lines look.")
    log_level: Literal["debug", "info", "warning", "error"] = Field(default="info", description="What is logged.")


@dataclass(frozen=True, slots=True)
class Configuration:
    """All settings of a daemon."""

    monitor: MonitorSettings
    writer: Settings
    origins: Mapping[str, Origin]
    """Of each value, by its name in the file: `monitor.poll_seconds`, `writer.region`."""
    file: Path | None
    """The TOML file that was read."""


def load(
    flags: Mapping[str, object] | None = None,
    *,
    file: Path | None = None,
    environment: Mapping[str, str] | None = None,
) -> Configuration:
    """Settings from all their places; `flags` by name as in the file (`monitor.poll_seconds`), None: not given.

    Raises `ConfigurationError`, which names each wrong setting and the place it came from.
    """
    source = os.environ if environment is None else environment
    path = file if file is not None else (Path(source[CONFIG_VARIABLE]) if source.get(CONFIG_VARIABLE) else None)
    places: tuple[tuple[Origin, dict[str, object]], ...] = (
        ("file", _of_file(path)),
        ("environment", _of_environment(source)),
        ("flag", {name: value for name, value in (flags or {}).items() if value is not None}),
    )
    values: dict[str, object] = {}
    origins: dict[str, Origin] = dict.fromkeys(_names(), "default")
    for origin, found in places:
        _refuse_unknown(found, origin, path)
        values.update(found)
        origins.update(dict.fromkeys(found, origin))
    return Configuration(
        monitor=_checked(MonitorSettings, "monitor", values, origins, path),
        writer=_checked(Settings, "writer", values, origins, path),
        origins=origins,
        file=path,
    )


def variable(name: str) -> str:
    """The environment variable of a setting given as `monitor.poll_seconds`."""
    section, _, field = name.partition(".")
    return (MONITOR_PREFIX if section == "monitor" else ENVIRONMENT_PREFIX) + field.upper()


_SECTIONS: Final[dict[str, type[BaseModel]]] = {"monitor": MonitorSettings, "writer": Settings}
Model = TypeVar("Model", bound=BaseModel)


def _names() -> list[str]:
    return [f"{section}.{field}" for section, model in _SECTIONS.items() for field in model.model_fields]


def _of_environment(source: Mapping[str, str]) -> dict[str, object]:
    return {name: source[variable(name)] for name in _names() if source.get(variable(name))}


def _of_file(path: Path | None) -> dict[str, object]:
    if path is None:
        return {}
    try:
        document: dict[str, Any] = tomllib.loads(path.read_text(encoding="utf-8"))
    except (OSError, ValueError, RecursionError) as error:  # a name with a zero byte, not UTF-8, not TOML, too deep
        raise ConfigurationError(printable(f"The settings file {path} cannot be read: {error}.")) from error
    found: dict[str, object] = {}
    for section, content in document.items():
        if not isinstance(content, dict):
            raise ConfigurationError(printable(f"{path}: {section} stands outside of [monitor] and [writer]."))
        found |= {f"{section}.{field}": value for field, value in content.items()}
    return found


def _refuse_unknown(found: Mapping[str, object], origin: Origin, path: Path | None) -> None:
    unknown = sorted(set(found) - set(_names()))
    if unknown:
        where = str(path) if origin == "file" else f"a {origin}"
        raise ConfigurationError(printable(f"There is no setting {unknown[0]}, given by {where}."))


def _checked(
    model: type[Model], section: str, values: Mapping[str, object], origins: Mapping[str, Origin], path: Path | None
) -> Model:
    mine = {name.removeprefix(section + "."): value for name, value in values.items() if name.startswith(section + ".")}
    try:
        return model(**mine)
    except ValidationError as error:
        lines = []
        for problem in error.errors(include_url=False, include_input=False):
            name = f"{section}.{problem['loc'][0]}" if problem["loc"] else section
            lines.append(f"{_shown(name, origins.get(name, 'default'), path)}: {told(problem['loc'], problem['msg'])}")
        raise ConfigurationError(printable("Settings are not usable: " + "; ".join(lines) + ".")) from error


def _shown(name: str, origin: Origin, path: Path | None) -> str:
    """A setting by the name under which the user set it."""
    if origin == "environment":
        return variable(name)
    return f"{name} in {path}" if origin == "file" else name
