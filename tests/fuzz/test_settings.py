"""Settings of any kind: an error that names the setting, or settings within their bounds."""

from __future__ import annotations

import math
import threading
from pathlib import Path
from typing import Any

import pytest
from hypothesis import example, given
from hypothesis import strategies as st

from monitor.settings import MONITOR_PREFIX, MonitorSettings, load
from reliable_write.clock import Deadline
from reliable_write.dynamodb import Store
from reliable_write.errors import ConfigurationError
from reliable_write.limits import ATTEMPT_DEADLINE_SECONDS, SHARDS_MAX
from reliable_write.settings import ENVIRONMENT_PREFIX, Settings
from reliable_write.system_table import read_installation
from tests.fuzz.tally import tally, tried
from tests.simulation.memory_world import SYSTEM, MemoryWorld

FIELDS = sorted(Settings.model_fields)
MONITOR_FIELDS = sorted(MonitorSettings.model_fields)

DEEP = "[" * 100_000
texts = st.one_of(
    st.text(st.characters(), min_size=1, max_size=12),
    st.text("0123456789.eE+-naif_ ", min_size=1, max_size=8),
    st.sampled_from(["nan", "inf", "-inf", "1e400", "1e300", "0", "-0", "true", "null", "\x00", "\x1b[31m", "\udc80"]),
    st.sampled_from(["http://[", "http://h:99999", "http://h:x", "https://", "file:///etc/passwd", "http://a\nb"]),
    st.integers().map(str),
    st.floats().map(str),
)
places = st.sampled_from(
    [
        DEEP,
        '{"eu":' * 50_000,
        '{"a\\u001b[31m\\n": {"region_name": "x"}}',
        '{"eu": {"\\u001b[31m": 1}}',
        '{"eu": {"endpoint_url": "http://[::"}}',
        '{"eu": {"endpoint_url": "http://h:99999"}}',
        '{"eu": {"region_name": "\\ud800"}}',
        '{"eu": null}',
        '{"eu": {"region_name": "eu-west-1"}, "eu": {}}',
        '{"eu": {"region_name": "eu-west-1"}}',
        '{"arn": {"region_name": "eu-west-1"}}',
        "[[]]",
        "1" * 5000,
    ]
)
plain = st.one_of(st.none(), st.booleans(), st.integers(), st.floats(), texts, st.binary(max_size=4))
python_values = st.one_of(plain, st.lists(plain, max_size=2), st.dictionaries(texts, plain, max_size=2))


def check_bounds(settings: Settings | MonitorSettings) -> None:
    """Every number is one, and every wait ends."""
    for name, value in settings.model_dump(exclude={"destinations"}).items():
        if isinstance(value, float):
            assert math.isfinite(value), name
            assert 0 < value <= threading.TIMEOUT_MAX, name
        if isinstance(value, str):
            assert value.encode(), name


def check_told(error: ConfigurationError, names: set[str]) -> None:
    assert any(name in str(error) for name in names), str(error)
    assert str(error).isprintable(), "raw text of a setting got into a message"


def test_an_environment_is_refused_by_name_or_within_bounds() -> None:
    with tally("environments", "used", "refused") as counts:
        variables = {name: ENVIRONMENT_PREFIX + name.upper() for name in FIELDS}

        @tried(0.1)
        @example({"destinations": DEEP})
        @example({"connect_timeout_seconds": "inf"})
        @given(
            st.one_of(
                st.dictionaries(st.sampled_from(FIELDS), texts, min_size=1, max_size=3),
                st.fixed_dictionaries({"destinations": places}, optional={"region": texts, "endpoint_url": texts}),
            )
        )
        def run(given_: dict[str, str]) -> None:
            counts["inputs"] += 1
            try:
                settings = Settings.from_environment({variables[name]: text for name, text in given_.items()})
            except ConfigurationError as error:
                counts["refused"] += 1
                check_told(error, {variables[name] for name in given_} | {"read_timeout_seconds"})
                return
            counts["used"] += 1
            check_bounds(settings)

        run()


def test_arguments_of_any_type_are_refused_by_name_or_within_bounds() -> None:
    with tally("constructors", "used", "refused") as counts:

        @tried(0.06)
        @given(st.dictionaries(st.sampled_from(FIELDS), python_values, min_size=1, max_size=3))
        def run(given_: dict[str, Any]) -> None:
            counts["inputs"] += 1
            try:
                settings = Settings.from_environment({}, **given_)
            except ConfigurationError as error:
                counts["refused"] += 1
                check_told(error, set(given_) | {"read_timeout_seconds"})
                return
            counts["used"] += 1
            check_bounds(settings)

        run()


def test_a_monitors_settings_from_all_places() -> None:
    with tally("monitor settings", "used", "refused") as counts:
        variables = {f"monitor.{name}": MONITOR_PREFIX + name.upper() for name in MONITOR_FIELDS}

        @tried(0.08)
        @example({"monitor.audit_seconds": "inf"}, {})
        @example({}, {"monitor.breaker_base_seconds": "1e300"})
        @given(
            st.dictionaries(st.sampled_from(sorted(variables)), texts, max_size=3),
            st.dictionaries(st.one_of(texts, st.sampled_from(sorted(variables))), texts, max_size=2),
        )
        def run(environment: dict[str, str], flags: dict[str, str]) -> None:
            counts["inputs"] += 1
            try:
                found = load(flags, environment={variables[name]: text for name, text in environment.items()})
            except ConfigurationError as error:
                counts["refused"] += 1
                check_told(error, {""})
                return
            counts["used"] += 1
            check_bounds(found.monitor)
            check_bounds(found.writer)

        run()


TOML = st.one_of(
    st.binary(max_size=40),
    st.text(st.characters(codec="utf-8"), max_size=40).map(str.encode),
    st.builds(
        lambda section, name, value: f"[{section}]\n{name} = {value}\n".encode(),
        st.sampled_from(["monitor", "writer", "other", "monitor.workers", '"\\u001b[31m"']),
        st.sampled_from([*MONITOR_FIELDS, *FIELDS, "no_such", '"\\u001b\\n"']),
        st.one_of(
            st.integers().map(str),
            st.sampled_from(
                ["nan", "inf", "-inf", "true", '""', '"\\u001b[31m"', "1979-05-27", "[]", "{}", '"x"', "3"]
            ),
        ),
    ),
    st.sampled_from([b"a = " + b"[" * 50_000, b"[monitor]\nworkers = " + b"{a=" * 20_000, b"\xff", b"monitor = 3"]),
)


def test_a_settings_file_of_any_content(tmp_path: Path) -> None:
    with tally("settings files", "used", "refused") as counts:
        file = tmp_path / "monitor.toml"

        @tried(0.05)
        @given(TOML)
        def run(content: bytes) -> None:
            counts["inputs"] += 1
            file.write_bytes(content)
            try:
                found = load(file=file, environment={})
            except ConfigurationError as error:
                counts["refused"] += 1
                check_told(error, {str(file), "read_timeout_seconds"})
                return
            counts["used"] += 1
            check_bounds(found.monitor)

        run()


@pytest.mark.parametrize("name", ["a\x00b", "/", "/no/such\x1b[31m", "\udc80"])
def test_a_file_that_cannot_be_one(name: str) -> None:
    with pytest.raises(ConfigurationError) as caught:
        load(file=Path(name), environment={})
    assert str(caught.value).isprintable()


CONFIG = {"format": "N", "shards": "N", "order": "S", "stamp_attribute": "S", "update_stamp_attribute": "S"}
numbers = st.one_of(st.integers(-(10**9), 10**9).map(str), st.floats(allow_nan=False).map(str))
wire = st.one_of(
    numbers.map(lambda text: {"N": text}),
    st.text(st.characters(codec="utf-8"), max_size=5).map(lambda text: {"S": text}),
    st.sampled_from([{"NULL": True}, {"L": []}, {"M": {}}, {"B": b"x"}, {"SS": ["a"]}, {"BOOL": False}]),
)


def test_a_config_record_of_any_content() -> None:
    """What all processes agree on: one that misreads it would look for entries in other places."""
    with tally("config records", "used", "refused") as counts:
        world = MemoryWorld()
        store, deadline = Store(world.tables, world.time), Deadline.after(ATTEMPT_DEADLINE_SECONDS, world.time)
        right = dict(world.records("CONFIG")[0])

        @tried(0.05)
        @given(
            st.dictionaries(st.sampled_from(sorted(CONFIG)), wire, max_size=2),
            st.sets(st.sampled_from(sorted(CONFIG)), max_size=1),
        )
        def run(garbled: dict[str, Any], missing: set[str]) -> None:
            counts["inputs"] += 1
            item = {name: value for name, value in {**right, **garbled}.items() if name not in missing}
            world.tables.tables[SYSTEM].items["CONFIG\0CONFIG"] = item
            try:
                found = read_installation(store, SYSTEM, deadline)
            except ConfigurationError as error:
                counts["refused"] += 1
                check_told(error, {"config record"})
                return
            counts["used"] += 1
            assert not missing
            assert {found.order} == {item["order"]["S"]}
            assert found.shards == int(item["shards"]["N"])
            assert 1 <= found.shards <= SHARDS_MAX
            assert item["format"]["N"] == "1"

        run()
