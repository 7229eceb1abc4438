"""The daemon's log: one line per event on stderr, JSON for machines or coloured columns for people. Never values.

Three ways by which an item's values reach logs elsewhere are closed here: botocore at level DEBUG logs whole requests,
tracebacks "with locals" print every variable, and messages of foreign exceptions quote what they refuse.
"""

from __future__ import annotations

import logging
import sys
import traceback
from types import TracebackType
from typing import Any, Final, Literal, TextIO

import structlog
from structlog.typing import EventDict, Processor, WrappedLogger

from reliable_write.dynamodb import CallFailed
from reliable_write.entry import UnreadableEntry
from reliable_write.errors import ReliableWriteError
from reliable_write.settings import printable

LogFormat = Literal["json", "console"]
LogLevel = Literal["debug", "info", "warning", "error"]

TALKATIVE: Final = ("boto3", "botocore", "urllib3", "s3transfer", "asyncio", "uvicorn")
"""Loggers kept at WARNING whatever level is asked for: their debug lines hold requests."""

_CAUSES_MAX: Final = 5
_HEAD: Final = ("timestamp", "level", "event")


def configure_logs(log_format: LogFormat = "json", level: LogLevel = "info", stream: TextIO | None = None) -> None:
    """Send the events of the library, the monitor and the standard library's loggers to one stream (stderr)."""
    stream = stream if stream is not None else sys.stderr
    number = logging.getLevelNamesMapping()[level.upper()]
    shared: list[Processor] = [
        structlog.contextvars.merge_contextvars,
        structlog.stdlib.add_log_level,
        structlog.processors.TimeStamper(fmt="iso", utc=True),
        tell_exception_without_values,
    ]
    structlog.configure(
        processors=[
            structlog.stdlib.filter_by_level,
            *shared,
            structlog.stdlib.ProcessorFormatter.wrap_for_formatter,
        ],
        wrapper_class=structlog.stdlib.BoundLogger,
        logger_factory=structlog.stdlib.LoggerFactory(),
        cache_logger_on_first_use=False,
    )
    handler = logging.StreamHandler(stream)
    handler.setFormatter(
        structlog.stdlib.ProcessorFormatter(
            processors=[structlog.stdlib.ProcessorFormatter.remove_processors_meta, *_renderer(log_format, stream)],
            foreign_pre_chain=[structlog.stdlib.add_logger_name, *shared],
        )
    )
    root = logging.getLogger()
    root.handlers = [handler]
    root.setLevel(number)
    for name in TALKATIVE:
        logging.getLogger(name).setLevel(max(number, logging.WARNING))


def _renderer(log_format: LogFormat, stream: TextIO) -> list[Processor]:
    if log_format == "json":
        return [_head_first, structlog.processors.JSONRenderer(default=str)]
    plain = structlog.dev.plain_traceback  # Rich's, the default where it is installed, shows the variables
    return [_printable, structlog.dev.ConsoleRenderer(colors=stream.isatty(), exception_formatter=plain)]


def _printable(_logger: WrappedLogger, _method: str, event: EventDict) -> EventDict:
    """Names and reasons come from others: none may begin a line of its own, or talk to the terminal. JSON escapes."""
    return {name: printable(value) if isinstance(value, str) else value for name, value in event.items()}


def _head_first(_logger: WrappedLogger, _method: str, event: EventDict) -> EventDict:
    """When, how grave and what, where a person who reads JSON looks first."""
    return {name: event.pop(name) for name in _HEAD if name in event} | dict(event)


def tell_exception_without_values(_logger: WrappedLogger, _method: str, event: EventDict) -> EventDict:
    """Replace `exc_info` by where it happened and what kind it was; messages only where they are our own."""
    info = event.pop("exc_info", None)
    error = _exception_of(info)
    if error is not None:
        event["error"] = describe(error)
        event["where"] = _where(error.__traceback__)
    return event


def describe(error: BaseException) -> str:
    """The kinds of an exception and its causes; the message where it is ours, which never holds a value.

    Foreign messages do: botocore's quote the parameter they refuse, DynamoDB's the number that is none.
    """
    told: list[str] = []
    seen: BaseException | None = error
    while seen is not None and len(told) < _CAUSES_MAX:
        kind = type(seen).__name__
        message = _own_message(seen)
        told.append(f"{kind}: {message}" if message else kind)
        seen = seen.__cause__ or (None if seen.__suppress_context__ else seen.__context__)
    return "; caused by ".join(told)


def _own_message(error: BaseException) -> str:
    if isinstance(error, ReliableWriteError):
        return error.message
    if isinstance(error, UnreadableEntry):
        return error.reason
    return str(error) if isinstance(error, CallFailed) else ""


def place(error: BaseException) -> str:
    """Where an exception was raised, for whoever must find the defect."""
    return (_where(error.__traceback__) or ["nowhere"])[-1]


def _exception_of(info: Any) -> BaseException | None:
    if isinstance(info, BaseException):
        return info
    if isinstance(info, tuple):
        return info[1] if isinstance(info[1], BaseException) else None
    return sys.exc_info()[1] if info else None


def _where(trace: TracebackType | None) -> list[str]:
    frames = traceback.extract_tb(trace)
    return [f"{frame.filename}:{frame.lineno} in {frame.name}" for frame in frames]
