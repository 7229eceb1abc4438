"""Whether a monitor collects: as set, and where nothing is set only where old signatures are refused."""

from __future__ import annotations

import pytest

from monitor import MonitorSettings, WriteMonitor
from reliable_write import ReliableWriter, Settings
from reliable_write.cli.doctor import Health, judge_collection
from reliable_write.dynamodb import is_aws
from reliable_write.events import Event
from reliable_write.testing.engines import Engine
from tests.chaos.stragglers import Ear
from tests.world import World, world

__all__ = ["world"]

AWS = (
    "https://dynamodb.eu-west-1.amazonaws.com",
    "https://dynamodb-fips.us-gov-west-1.amazonaws.com",
    "https://dynamodb.cn-north-1.amazonaws.com.cn",
    "https://dynamodb.eu-west-1.api.aws",
    "https://123456789012.ddb.eu-west-1.amazonaws.com",
    "https://vpce-1.dynamodb.eu-west-1.vpce.amazonaws.com:443",
)
NOT_AWS = (
    "http://127.0.0.1:8000",
    "http://[::1]:8000",
    "http://localhost:8000",
    "http://alternator.internal:8043",
    "https://amazonaws.com.example.org",
    "https://notamazonaws.com",
    "amazonaws.com",
    "",
)


@pytest.mark.parametrize("endpoint_url", AWS)
def test_endpoints_of_aws_are_known(endpoint_url: str) -> None:
    assert is_aws(endpoint_url)
    assert judge_collection(endpoint_url).health is Health.OK


@pytest.mark.parametrize("endpoint_url", NOT_AWS)
def test_what_only_looks_like_one_is_not(endpoint_url: str) -> None:
    assert not is_aws(endpoint_url)
    assert "gc is true" in judge_collection(endpoint_url).told


@pytest.mark.parametrize(
    ("endpoint_url", "gc", "collects"),
    [
        (None, None, True),
        (None, False, False),
        ("http://127.0.0.1:8000", None, False),
        ("http://127.0.0.1:8000", True, True),
        ("https://proxy.example.org", None, False),
    ],
)
def test_what_is_set_holds_and_else_the_endpoint_decides(
    endpoint_url: str | None, gc: bool | None, collects: bool, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("AWS_ACCESS_KEY_ID", "none")
    monkeypatch.setenv("AWS_SECRET_ACCESS_KEY", "none")
    writer = ReliableWriter(Settings(region="eu-west-1", endpoint_url=endpoint_url))
    assert WriteMonitor(writer, MonitorSettings(gc=gc))._collects() is collects
    writer.client.close()


@pytest.mark.parametrize(("gc", "told"), [(None, Event.COLLECTION_OFF), (True, Event.COLLECTION_ON)])
def test_which_it_is_is_said_once(world: World, gc: bool | None, told: Event) -> None:
    ear = Ear()
    monitor = WriteMonitor(world.writer(logger=ear), MonitorSettings(gc=gc))
    monitor.audit_once()
    monitor.audit_once()
    assert [event for event, _ in ear.heard if event.startswith("collection_o")] == [told]
    assert "signatures" in ear.of(told)[0]["told"]


def test_the_engines_of_these_tests_check_no_signatures(dynoxide: Engine) -> None:
    """So it is right that nothing is collected there unless a test asks for it."""
    assert not is_aws(dynoxide.endpoint_url)
