"""The daemon's log lines: one each, for machines or people, and never an item's value in them."""

from __future__ import annotations

import io
import json
import logging
from collections.abc import Iterator
from typing import Any

import pytest
import structlog
from botocore.exceptions import ParamValidationError

from monitor.logs import TALKATIVE, LogFormat, LogLevel, configure_logs
from reliable_write.embedded.server import dynamodb_client
from reliable_write.errors import CommitFailedError
from reliable_write.events import Event, Events

SECRET = "4111-1111-1111-1111"


@pytest.fixture(autouse=True)
def logging_as_it_was() -> Iterator[None]:
    root = logging.getLogger()
    handlers, level = list(root.handlers), root.level
    levels = {name: logging.getLogger(name).level for name in TALKATIVE}
    yield
    structlog.reset_defaults()
    root.handlers = handlers
    root.setLevel(level)
    for name, before in levels.items():
        logging.getLogger(name).setLevel(before)


class Sink(io.StringIO):
    @property
    def lines(self) -> list[str]:
        return self.getvalue().splitlines()

    @property
    def facts(self) -> list[dict[str, Any]]:
        return [json.loads(line) for line in self.lines]


def sink(log_format: LogFormat = "json", level: LogLevel = "info") -> Sink:
    stream = Sink()
    configure_logs(log_format, level, stream)
    return stream


def test_an_event_of_the_library_is_one_line_of_json_with_its_head_first() -> None:
    stream = sink()
    Events().warning(Event.ENTRY_STILL_PENDING, write_id="w1", attempts=3)
    (facts,) = stream.facts
    assert list(facts)[:3] == ["timestamp", "level", "event"]
    assert facts["timestamp"].endswith("Z")
    assert {name: facts[name] for name in ("level", "event", "write_id", "attempts")} == {
        "level": "warning",
        "event": "entry_still_pending",
        "write_id": "w1",
        "attempts": 3,
    }


def test_the_standard_librarys_loggers_come_the_same_way() -> None:
    stream = sink()
    logging.getLogger("somebody").warning("disk %s full", "a")
    (facts,) = stream.facts
    assert (facts["event"], facts["level"], facts["logger"]) == ("disk a full", "warning", "somebody")


def test_console_lines_are_for_people() -> None:
    stream = sink("console")
    Events().info(Event.ENTRY_RECOVERED, write_id="w1")
    (line,) = stream.lines
    assert "entry_recovered" in line
    assert "write_id=w1" in line
    assert "\x1b" not in line, "no colours where there is no terminal"


@pytest.mark.parametrize(("level", "expected"), [("debug", 3), ("info", 2), ("warning", 1), ("error", 0)])
def test_the_level_decides_what_is_written(level: LogLevel, expected: int) -> None:
    stream = sink(level=level)
    log = structlog.get_logger("x")
    log.debug("a")
    log.info("b")
    log.warning("c")
    assert len(stream.lines) == expected


@pytest.mark.parametrize("log_format", ["json", "console"])
def test_no_value_is_logged_at_level_debug_while_a_request_is_made(log_format: LogFormat) -> None:
    """Botocore logs whole requests at DEBUG."""
    stream = sink(log_format, "debug")
    client = dynamodb_client("http://127.0.0.1:1", retries={"total_max_attempts": 1})
    with pytest.raises(Exception, match="Could not connect"):
        client.put_item(TableName="cards", Item={"id": {"S": SECRET}})
    structlog.get_logger("x").debug("asked")
    assert len(stream.lines) == 1
    assert SECRET not in stream.getvalue()


@pytest.mark.parametrize("log_format", ["json", "console"])
def test_an_exception_is_told_by_kind_and_place_and_not_by_its_words_or_variables(log_format: LogFormat) -> None:
    """Botocore's messages quote what they refuse, and tracebacks with locals print every variable."""
    stream = sink(log_format)

    def fails(card: str) -> None:
        try:
            raise ParamValidationError(report=f"Invalid value {card}")
        except ParamValidationError as error:
            raise CommitFailedError("The journal refused the write.") from error

    try:
        fails(SECRET)
    except CommitFailedError:
        structlog.get_logger("x").exception("attempt_failed")
        logging.getLogger("y").exception("and the other way")
    assert SECRET not in stream.getvalue()
    assert stream.getvalue().count("CommitFailedError: The journal refused the write.; caused by Param") == 2
    assert stream.getvalue().count("in fails") == 2
    assert len(stream.lines) == 2


def test_configuring_twice_doubles_no_line() -> None:
    stream = sink()
    configure_logs("json", "info", stream)
    structlog.get_logger("x").info("once")
    assert len(stream.lines) == 1
