from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest
from botocore.exceptions import ProfileNotFound
from pydantic import ValidationError

from reliable_write import limits
from reliable_write.dynamodb import open_client
from reliable_write.errors import ConfigurationError
from reliable_write.settings import Destination, Settings, split_alias

NOWHERE = {"region_name": None, "role_arn": None, "external_id": None, "endpoint_url": None}
ROOT = Path(__file__).parents[2]
FROM_ENVIRONMENT: dict[str, tuple[str, Any]] = {
    "system_table": ("journal", "journal"),
    "region": ("eu-west-1", "eu-west-1"),
    "profile": ("staging", "staging"),
    "endpoint_url": ("http://127.0.0.1:1", "http://127.0.0.1:1"),
    "attempt_deadline_seconds": ("5.5", 5.5),
    "connect_timeout_seconds": ("0.5", 0.5),
    "read_timeout_seconds": ("2", 2.0),
    "propagation_threads": ("7", 7),
    "delete_finished_inline": ("true", True),
    "consistent_reads": ("true", True),
    "destinations": ('{"eu": {"region_name": "eu-central-1"}}', {"eu": {**NOWHERE, "region_name": "eu-central-1"}}),
}
SHOWN_BY = {
    "system_table": "tests/unit/test_engine.py::test_the_system_table_is_the_one_that_is_read",
    "region": "tests/unit/test_settings.py::test_region_endpoint_and_timeouts_reach_the_client",
    "profile": "tests/unit/test_settings.py::test_a_profile_is_looked_up",
    "endpoint_url": "tests/unit/test_settings.py::test_region_endpoint_and_timeouts_reach_the_client",
    "attempt_deadline_seconds": "tests/unit/test_engine.py::test_an_attempt_lasts_as_long_as_set",
    "connect_timeout_seconds": "tests/unit/test_settings.py::test_region_endpoint_and_timeouts_reach_the_client",
    "read_timeout_seconds": "tests/unit/test_settings.py::test_region_endpoint_and_timeouts_reach_the_client",
    "propagation_threads": "tests/unit/test_settings.py::test_each_thread_has_a_connection",
    "delete_finished_inline": "tests/unit/test_finished.py::test_inline_deletes_before_add_returns",
    "consistent_reads": "tests/unit/test_reads.py::test_the_setting_holds_where_no_scope_says_otherwise",
    "destinations": "tests/integration/test_destinations.py::test_a_scope_over_two_regions_is_written_in_both",
}
"""Where the effect of each setting is tested: a setting that nobody reads is a lie (Simol's ReprocessDelay)."""


def test_every_setting_comes_from_the_environment() -> None:
    assert FROM_ENVIRONMENT.keys() == Settings.model_fields.keys()
    environment = {f"RELIABLE_WRITE_{name.upper()}": text for name, (text, _) in FROM_ENVIRONMENT.items()}
    made = Settings.from_environment(environment)
    assert made.model_dump() == {name: value for name, (_, value) in FROM_ENVIRONMENT.items()}


def test_the_effect_of_every_setting_is_tested() -> None:
    assert SHOWN_BY.keys() == Settings.model_fields.keys()
    for place in SHOWN_BY.values():
        file, _, name = place.partition("::")
        assert f"def {name}(" in (ROOT / file).read_text(), place


def test_every_setting_says_what_it_is() -> None:
    assert all(field.description for field in Settings.model_fields.values())


def test_the_defaults_are_those_of_the_limits() -> None:
    made = Settings.from_environment({})
    assert made.attempt_deadline_seconds == limits.ATTEMPT_DEADLINE_SECONDS
    assert made.propagation_threads == limits.PROPAGATION_THREADS
    assert made.system_table == "reliable_write"
    assert made.delete_finished_inline is False


def test_lambda_deletes_inline_unless_told_otherwise(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("AWS_LAMBDA_FUNCTION_NAME", "orders")
    assert Settings.from_environment().delete_finished_inline is True
    assert Settings.from_environment(delete_finished_inline=False).delete_finished_inline is False


def test_what_is_given_goes_over_the_environment() -> None:
    made = Settings.from_environment({"RELIABLE_WRITE_REGION": "eu-west-1"}, region="us-east-2")
    assert made.region == "us-east-2"


def test_an_empty_variable_is_as_good_as_none() -> None:
    assert Settings.from_environment({"RELIABLE_WRITE_REGION": ""}).region is None


@pytest.mark.parametrize(
    ("variable", "text"),
    [
        ("ATTEMPT_DEADLINE_SECONDS", "soon"),
        ("ATTEMPT_DEADLINE_SECONDS", "0"),
        ("ATTEMPT_DEADLINE_SECONDS", str(limits.LEASE_SECONDS)),
        ("ATTEMPT_DEADLINE_SECONDS", "nan"),
        ("CONNECT_TIMEOUT_SECONDS", "-1"),
        ("READ_TIMEOUT_SECONDS", "0"),
        ("PROPAGATION_THREADS", "0"),
        ("PROPAGATION_THREADS", "1.5"),
        ("PROPAGATION_THREADS", "1000"),
        ("SYSTEM_TABLE", "no"),
        ("SYSTEM_TABLE", "sp ace"),
        ("DELETE_FINISHED_INLINE", "perhaps"),
    ],
)
def test_a_wrong_variable_is_refused_by_its_name(variable: str, text: str) -> None:
    with pytest.raises(ConfigurationError, match=f"RELIABLE_WRITE_{variable}: "):
        Settings.from_environment({f"RELIABLE_WRITE_{variable}": text})


def test_a_wrong_argument_is_refused_by_its_own_name() -> None:
    with pytest.raises(ConfigurationError, match=r": propagation_threads: ") as caught:
        Settings.from_environment({}, propagation_threads=0)
    assert "RELIABLE_WRITE_" not in str(caught.value)


def test_all_that_is_wrong_is_told_at_once() -> None:
    with pytest.raises(ConfigurationError) as caught:
        Settings.from_environment({"RELIABLE_WRITE_SYSTEM_TABLE": "x", "RELIABLE_WRITE_PROPAGATION_THREADS": "0"})
    assert "SYSTEM_TABLE" in str(caught.value)
    assert "PROPAGATION_THREADS" in str(caught.value)


def test_unknown_settings_are_refused() -> None:
    with pytest.raises(ConfigurationError, match="retry_forever"):
        Settings.from_environment({}, retry_forever=True)
    with pytest.raises(ValidationError, match="retry_forever"):
        Settings(retry_forever=True)  # type: ignore[call-arg]


def test_a_read_timeout_longer_than_the_deadline_is_refused() -> None:
    with pytest.raises(ConfigurationError, match="no request could be retried"):
        Settings.from_environment({}, attempt_deadline_seconds=1.0, read_timeout_seconds=2.0)


def test_settings_do_not_change() -> None:
    with pytest.raises(ValidationError, match="frozen"):
        Settings().region = "elsewhere"


# --- effects ------------------------------------------------------------------------------------------------------


@pytest.fixture(autouse=True)
def no_credentials_of_this_machine(monkeypatch: pytest.MonkeyPatch) -> None:
    for name, value in {"AWS_ACCESS_KEY_ID": "none", "AWS_SECRET_ACCESS_KEY": "none"}.items():
        monkeypatch.setenv(name, value)
    for name in ("AWS_PROFILE", "AWS_DEFAULT_REGION", "AWS_REGION", "AWS_LAMBDA_FUNCTION_NAME"):
        monkeypatch.delenv(name, raising=False)


def test_region_endpoint_and_timeouts_reach_the_client() -> None:
    client = open_client(
        Settings(
            region="eu-north-1",
            endpoint_url="http://127.0.0.1:1",
            connect_timeout_seconds=0.25,
            read_timeout_seconds=0.75,
        )
    )
    assert client.meta.region_name == "eu-north-1"
    assert client.meta.endpoint_url == "http://127.0.0.1:1"
    assert client.meta.config.connect_timeout == 0.25
    assert client.meta.config.read_timeout == 0.75
    assert client.meta.config.retries["total_max_attempts"] == 1
    client.close()


def test_each_thread_has_a_connection() -> None:
    client = open_client(Settings(region="eu-north-1", propagation_threads=50))
    assert client.meta.config.max_pool_connections > 50
    client.close()


def test_a_profile_is_looked_up() -> None:
    with pytest.raises(ConfigurationError, match="no-such-profile") as raised:
        open_client(Settings(region="eu-north-1", profile="no-such-profile"))
    assert isinstance(raised.value.__cause__, ProfileNotFound)


# --- destinations -------------------------------------------------------------------------------------------------

ROLE = "arn:aws:iam::123456789012:role/path/writer"


@pytest.mark.parametrize(
    ("text", "told"),
    [
        ("{", "not JSON"),
        ('["eu"]', "valid dictionary"),
        ('{"e u": {"region_name": "eu-west-1"}}', "'e u' is no alias"),
        ('{"1eu": {"region_name": "eu-west-1"}}', "'1eu' is no alias"),
        ('{"": {"region_name": "eu-west-1"}}', "'' is no alias"),
        ('{"arn": {"region_name": "eu-west-1"}}', "'arn' is no alias"),
        ('{"' + "a" * 33 + '": {"region_name": "eu-west-1"}}', "is no alias: 1 to 32 letters"),
        ('{"eu": {}}', "eu: .*names a region_name, a role_arn or an endpoint_url"),
        ('{"eu": {"region": "eu-west-1"}}', "eu.region: Extra inputs"),
        ('{"eu": {"role_arn": "arn:aws:iam::12:role/x"}}', "eu.role_arn: .*is no role's ARN"),
        ('{"eu": {"role_arn": "arn:aws:iam::123456789012:user/x"}}', "eu.role_arn: .*looks like arn:aws:iam::"),
        ('{"eu": {"endpoint_url": "localhost:8000"}}', "eu.endpoint_url: .*is no endpoint"),
        ('{"eu": {"region_name": "x", "external_id": "42"}}', "external_id goes with a role_arn"),
        (
            '{"eu": {"region_name": "eu-west-1"}, "ie": {"region_name": "eu-west-1"}}',
            "'ie' leads to where 'eu' is: keep one name",
        ),
    ],
)
def test_wrong_destinations_are_told_by_variable_and_place(text: str, told: str) -> None:
    with pytest.raises(ConfigurationError, match=f"RELIABLE_WRITE_DESTINATIONS: .*{told}"):
        Settings.from_environment({"RELIABLE_WRITE_DESTINATIONS": text})


@pytest.mark.parametrize(
    "same",
    [
        {"endpoint_url": "http://localhost:8000/"},
        {"region_name": "us-east-1", "endpoint_url": "http://localhost:8000"},
    ],
)
def test_home_has_no_second_name(same: dict[str, str]) -> None:
    with pytest.raises(ValidationError, match="'eu' leads to where the system table is"):
        Settings(region="us-east-1", endpoint_url="http://localhost:8000", destinations={"eu": Destination(**same)})


@pytest.mark.parametrize("endpoint", ["https://dynamodb.eu-west-1.amazonaws.com", "https://vpce-1.api.aws/", None])
def test_all_of_awss_endpoints_of_a_region_are_one_place(endpoint: str | None) -> None:
    again = Destination(region_name="eu-west-1", endpoint_url=endpoint)
    places = {"a": Destination(region_name="eu-west-1"), "b": again}
    with pytest.raises(ValidationError, match="'b' leads to where 'a' is"):
        Settings(region="us-east-1", destinations=places)


def test_two_roles_of_one_account_lead_to_the_same_tables_and_two_accounts_do_not() -> None:
    one = Destination(role_arn=ROLE)
    with pytest.raises(ValidationError, match="'b' leads to where 'a' is"):
        Settings(destinations={"a": one, "b": Destination(role_arn=ROLE + "2")})
    other = Destination(role_arn="arn:aws-cn:iam::210987654321:role/writer")
    apart = Settings(destinations={"a": one, "b": other, "c": Destination(role_arn=ROLE, region_name="x")})
    assert len(apart.destinations) == 3


def test_destinations_given_in_code_come_beside_those_of_the_environment() -> None:
    made = Settings.from_environment({"RELIABLE_WRITE_DESTINATIONS": '{"eu": {"region_name": "eu-west-1"}}'})
    both = made.with_destinations({"us": Destination(region_name="us-west-2")})
    assert set(both.destinations) == {"eu", "us"}
    with pytest.raises(ConfigurationError, match=r"^Settings are not usable: destinations: .*'e u' is no alias"):
        made.with_destinations({"e u": Destination(region_name="us-west-2")})


def test_an_arn_has_no_alias() -> None:
    arn = "arn:aws:dynamodb:eu-west-1:123456789012:table/orders"
    assert split_alias(arn) == (None, arn)
    assert split_alias("eu:orders") == ("eu", "orders")
    assert split_alias("orders") == (None, "orders")


@pytest.mark.parametrize("url", ["http://h:99999", "http://h:x", "http://["])
def test_an_endpoint_that_no_request_can_reach_is_refused_by_name(url: str) -> None:
    """Botocore takes it, and the port would be looked at when nobody reports it any more."""
    with pytest.raises(ConfigurationError, match="endpoint_url"):
        Settings.from_environment({}, endpoint_url=url)
