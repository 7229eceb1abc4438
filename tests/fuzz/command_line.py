"""`reliable-write` in this process: every command and option the app has, on an installation in memory or on moto."""

from __future__ import annotations

import contextlib
import io
import json
import os
import sys
import threading
from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass
from types import SimpleNamespace
from typing import Any, NoReturn

import pytest
import typer.main
from botocore.exceptions import ClientError

from reliable_write.audit_log import AuditLog
from reliable_write.cli.app import app
from reliable_write.clock import Deadline
from reliable_write.dynamodb import CallFailed, CallName, ConditionRefused, RoutedCalls, TransactionCancelled
from reliable_write.errors import ConfigurationError
from reliable_write.policy import FailureKind
from reliable_write.settings import ENVIRONMENT_PREFIX, Settings
from reliable_write.values import WireItem
from tests.fuzz.damage import SHAPES, DamagedWorld
from tests.simulation.memory_world import SYSTEM, TABLE
from tests.unit.fakes import ManualTime

LOCKS, LEDGER = "locks", "uploads"
COMMAND = typer.main.get_command(app)


def commands(group: Any = COMMAND, path: str = "") -> Iterator[tuple[str, Any]]:
    """All commands by their full names, and the groups themselves."""
    yield path.strip(), group
    for name, command in getattr(group, "commands", {}).items():
        yield from commands(command, f"{path}{name} ")


class NobodyAnswers(io.StringIO):
    """A stdin that is no terminal, and that nobody may wait for."""

    def readable(self) -> NoReturn:
        raise AssertionError("a command asked, and waits for an answer")

    read = readline = readlines = __next__ = readable  # type: ignore[assignment]


class Terminal(io.TextIOWrapper):
    def isatty(self) -> bool:
        return True


@dataclass(frozen=True)
class Ran:
    code: int
    out: str
    err: str


def run(arguments: list[str], *, terminal: bool = False, command: Any = COMMAND) -> Ran:
    """What a shell would see. An exception that nobody foresaw passes; so does one of a stream that cannot encode."""
    stream = Terminal if terminal else io.TextIOWrapper
    out, err = io.BytesIO(), io.BytesIO()
    kept, environment = (sys.stdin, sys.stdout, sys.stderr), dict(os.environ)
    sys.stdin = NobodyAnswers()
    sys.stdout, sys.stderr = stream(out, "utf-8"), stream(err, "utf-8", errors="backslashreplace")
    try:
        command.main(arguments, prog_name="reliable-write" if command is COMMAND else "write-monitor")
        code = 0
    except SystemExit as ended:
        code = ended.code if isinstance(ended.code, int) else 1 if ended.code else 0
    finally:
        with contextlib.suppress(UnicodeEncodeError):
            sys.stdout.flush()
        sys.stderr.flush()
        told = (out.getvalue().decode(), err.getvalue().decode())
        sys.stdin, sys.stdout, sys.stderr = kept
        os.environ.clear()  # the demo takes settings out of its own process
        os.environ.update(environment)
    return Ran(code, *told)


def check_inert(ran: Ran) -> None:
    """No name, reason or argument gets to a terminal as something else than text on its line."""
    for text in (ran.out, ran.err):
        odd = {mark for mark in text if not mark.isprintable() and mark not in "\n\t\xa0"}
        assert not odd, f"raw {odd!r} in {text[:2000]!r}"
        assert "\nforged" not in text, "a value began a line of its own"


# --- an installation in memory ------------------------------------------------------------------------------------


class StrictTime(ManualTime):
    """Nobody waits; but what the machine's own sleep would refuse is refused."""

    def sleep(self, seconds: float) -> None:
        if not 0 <= seconds <= threading.TIMEOUT_MAX:
            raise OverflowError(f"nobody sleeps for {seconds} s")
        super().sleep(seconds)


class Missing(ClientError):
    pass


class Client:
    """What commands ask of a boto3 client beside the engine's calls."""

    exceptions = SimpleNamespace(ResourceNotFoundException=Missing, ResourceInUseException=Missing)

    def __init__(self, home: Home, settings: Settings) -> None:
        self._home = home
        self.meta = SimpleNamespace(
            region_name=settings.region or "us-east-1",
            endpoint_url=settings.endpoint_url or "http://127.0.0.1:1",
            partition="aws",
            config=SimpleNamespace(max_pool_connections=4),
        )

    def close(self) -> None:
        pass

    def get_waiter(self, _name: str) -> Any:
        return SimpleNamespace(wait=lambda **_: None)

    def create_table(self, **request: Any) -> None:
        self._home.create(request["TableName"])

    def __getattr__(self, call: str) -> Callable[..., Any]:
        def send(**request: Any) -> dict[str, Any]:
            try:
                return self._home.apply(call, request)
            except CallFailed as failure:
                raise Missing({"Error": {"Code": failure.code}}, call) from failure
            except (ConditionRefused, TransactionCancelled) as refused:
                raise ClientError({"Error": {"Code": "ConditionalCheckFailedException"}}, call) from refused

        return send


class Home:
    """`BotoCalls` over tables in memory; several threads of one command take turns."""

    def __init__(self, world: DamagedWorld, settings: Settings) -> None:
        self._world = world
        self._lock = threading.Lock()
        self.client = Client(self, settings)

    def send(self, call: CallName, request: Mapping[str, Any], deadline: Deadline) -> dict[str, Any]:
        with self._lock:
            try:
                return self._world.tables.send(call, request, deadline)
            except KeyError as error:  # a key of another table
                raise CallFailed(FailureKind.VALIDATION, "ValidationException", None) from error

    def apply(self, call: str, request: Mapping[str, Any]) -> dict[str, Any]:
        """A request that is no part of the protocol. Those that try a permission do nothing."""
        if call in ("get_item", "scan", "batch_get_item", "describe_table"):
            with self._lock:
                return self._world.tables.apply(call, request)  # type: ignore[arg-type]  # the names are the same
        code = "ConditionalCheckFailedException" if "item" in call else "UnknownOperationException"
        raise ClientError({"Error": {"Code": code}}, call)

    def create(self, table: str) -> None:
        with self._lock:
            if table in self._world.tables.tables:
                raise Missing({"Error": {"Code": "ResourceInUseException"}}, "create_table")
            keys = ("object",) if table == LEDGER else ("pk", "sk")
            self._world.tables.create(table, *keys)


def no_s3(*_: Any) -> NoReturn:
    raise ConfigurationError("There is no S3 here.")


class Place:
    """One installation with something of everything in it, and the commands that are run there."""

    def __init__(self, patch: pytest.MonkeyPatch, *, evil: str = "") -> None:
        self.evil = evil
        self.world = DamagedWorld()
        self._fill()
        self.whole = self.world.snapshot()
        time = StrictTime(self.world.time.wall)
        for name in list(self._environment()):
            patch.delenv(name, raising=False)
        patch.setenv(ENVIRONMENT_PREFIX + "SYSTEM_TABLE", SYSTEM)
        patch.setenv("COLUMNS", "100")
        patch.setattr("reliable_write.cli.connect.open_client", lambda settings: Home(self.world, settings).client)
        patch.setattr("reliable_write.cli.connect.open_calls", self._calls)
        patch.setattr("reliable_write.cli.connect.SystemTime", lambda: time)
        patch.setattr("reliable_write.writer.open_calls", self._calls)
        patch.setattr("reliable_write.writer.SystemTime", lambda: time)
        patch.setattr("reliable_write.uploads.once.open_s3", no_s3)
        patch.setattr("reliable_write.embedded.ministack.ministack_missing", lambda: "It is not here.")

    @staticmethod
    def _environment() -> Iterator[str]:
        return (name for name in os.environ if name.startswith((ENVIRONMENT_PREFIX, "AWS_")))

    def _calls(self, settings: Settings, *_: Any, **__: Any) -> RoutedCalls:
        return RoutedCalls(Home(self.world, settings), {})  # type: ignore[arg-type]  # what it takes of one

    def _fill(self) -> None:
        world, evil = self.world, self.evil
        journal = world.engine.journal
        world.tables.create(LOCKS, "key")
        world.tables.create(LEDGER, "object")
        pending = world.leave(SHAPES["all kinds"])
        journal.postpone(journal.claim(pending, f"host{evil}:7", world.deadline()), f"slow{evil}", 7, world.deadline())
        aside = journal.quarantine(world.leave(SHAPES["a put"]), f"broken{evil}", world.deadline())
        damaged = world.leave(SHAPES["a put"])
        head = next(item for item in world.records("J#") if item["sk"]["S"] == damaged.stamp)
        world.replace(head, {**head, "payload": {"B": b"x" * 40}})
        world.record(head["pk"]["S"], "rubbish" + evil)
        world.plant("foreign", _rw="no stamp" + evil)
        for name in (f"held{evil}", "held", "free"):
            self._lock_held(name)
        for attribute in ("lock_owner", "lock_id", "lock_beat", "lock_lease_seconds", "lock_since"):
            del world.tables.tables[LOCKS].items["free"][attribute]
        world.engine.heartbeats.beat(f"host{evil}:1:aa", f"1.0{evil}", world.deadline())
        log = AuditLog(world.engine.store, SYSTEM, world.time)
        facts: WireItem = {"write_id": {"S": aside.write_id + evil}, "table": {"S": TABLE + evil}}
        facts["skipped"] = {"SS": [f"operations[0]{evil}"]}
        log.record("retry", operator=f"ann{evil}", reason=f"why{evil}", facts=facts, deadline=world.deadline())
        self.ids = [pending.write_id, aside.write_id, damaged.write_id, "0" * 36, "no-such"]

    def _lock_held(self, name: str) -> None:
        self.world.tables.tables[LOCKS].items[name] = {
            "key": {"S": name},
            "lock_owner": {"S": f"ann{self.evil}"},
            "lock_id": {"S": f"id{self.evil}"},
            "lock_token": {"N": "7"},
            "lock_beat": {"N": "3"},
            "lock_lease_seconds": {"N": "20.0"},
            "lock_since": {"N": "1700000000000"},
            "lock_data": {"S": f"data{self.evil}"},
        }

    def restore(self) -> None:
        """As it was before any command."""
        for name in set(self.world.tables.tables) - set(self.whole):
            del self.world.tables.tables[name]
        self.world.restore(self.whole)

    def changed(self) -> list[str]:
        """Tables that are not as they were."""
        now = self.world.snapshot()
        return [name for name in now if now[name] != self.whole.get(name)]


def _no_json(constant: str) -> NoReturn:
    raise ValueError(f"{constant} is no JSON")


def documents(text: str) -> list[Any]:
    """What `--json` printed: all JSON documents in it. Raises `ValueError` for anything else, `NaN` too."""
    decoder, found, rest = json.JSONDecoder(parse_constant=_no_json), [], text.strip()
    while rest:
        document, end = decoder.raw_decode(rest)
        found.append(document)
        rest = rest[end:].lstrip()
    return found
