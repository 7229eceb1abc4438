"""The engines the tests run on: real ones in processes of their own on loopback, and moto in this process.

Each engine says what it lacks of DynamoDB and why, found by `tests/conformance/`, which runs on all of them:
a test that needs what is lacking checks what the engine does instead, or is skipped with these words.
Binaries are fetched by `make engines`; nothing is downloaded from here.

    with Dynoxide() as engine:
        client = engine.client()
        ...
        engine.kill()       # SIGKILL: a power cut
        engine.restart()    # same port, same file

Nothing here needs pytest, and no engine is imported before it is started.
"""

import enum
import importlib.util
import os
import shutil
import sys
import threading
import weakref
from abc import ABC, abstractmethod
from collections.abc import Mapping
from pathlib import Path
from types import MappingProxyType
from typing import Any, ClassVar, Self

import boto3.session

from reliable_write.embedded import Command, LoopbackServer, dynamodb_client, local_session
from reliable_write.embedded.ministack import ministack_command, ministack_missing
from reliable_write.embedded.server import HOST
from reliable_write.errors import ConfigurationError

ENGINES_VARIABLE = "RELIABLE_WRITE_ENGINES"
DYNAMODB_LOCAL_VARIABLE = "RELIABLE_WRITE_DYNAMODB_LOCAL"
FETCH_COMMAND = "make engines"


class Capability(enum.Enum):
    """What DynamoDB does and some engine does not; the value says what having it means."""

    TRANSACTIONS = "TransactWriteItems applies all or nothing and gives its reasons in the caller's order"
    REQUEST_TOKENS = "a repeated ClientRequestToken is applied once, and refused with another body"
    TRANSACTION_SIZE_LIMIT = "transactions over 4 MB are refused"
    OLD_ITEM_ON_FAILED_CONDITION = "ReturnValuesOnConditionCheckFailure=ALL_OLD shows the item a write met"
    CONSUMED_CAPACITY = "ReturnConsumedCapacity tells what a single request was billed"
    BATCH_GET_CAPACITY = "the same for BatchGetItem, where absent items are billed too"
    BATCH_LIMITS = "a batch of more than 100 keys or 25 writes, or of none, is refused"
    BATCH_LIMITS_ACROSS_TABLES = "the keys of all tables in a batch are counted together"
    BATCH_DUPLICATES_REFUSED = "a batch that names one key twice is refused"
    NUMBER_DUPLICATES_REFUSED = "the same where a number key is spelled in two ways"
    NUMBER_KEYS_CANONICAL = "1, 1.0 and 1e0 are one key"
    NUMBERS_STORED_CANONICAL = "7.50 comes back as 7.5"
    NUMBER_LIMITS = "numbers of more than 38 digits or out of range are refused"
    ITEM_SIZE_LIMIT = "an item of exactly 400 KB is stored and one byte more is refused"
    NESTING_LIMIT = "values nested deeper than 32 levels are refused"
    SET_CHECKS = "empty sets, sets with a member twice and empty binary keys are refused"
    KEY_CHECKS = "keys with attributes of the wrong type are refused"
    INDEX_KEY_CHECKS = "an item whose attribute does not fit the key of an index is refused"
    UNUSED_VALUES_REFUSED = "an expression value that no expression uses is refused"
    PATHS_UPDATED_ONCE = "an expression that updates one path twice is refused"
    ATOMIC_UNDER_THREADS = "writes to one item from many threads are applied one after another"
    MIXED_COMPARISONS = "comparing an attribute with a value of another type is false, and no error"
    TTL = "UpdateTimeToLive is kept and told by DescribeTimeToLive"
    POINT_IN_TIME_RECOVERY = "UpdateContinuousBackups is kept and told by DescribeContinuousBackups"
    DELETION_PROTECTION = "a protected table cannot be deleted"
    REGIONS = "each Region has tables of its own"
    DURABLE = "acknowledged writes survive SIGKILL of the engine"


class Engine(ABC):
    """One engine. `start()` it or use `with`; clients made by `client()` are closed when it stops."""

    name: ClassVar[str]
    lacks: ClassVar[Mapping[Capability, str]] = MappingProxyType({})
    """The capabilities it does not have, each with what it does instead."""

    def __init__(self) -> None:
        # Weakly: a client weighs megabytes, and a test run opens thousands.
        self._clients: weakref.WeakSet[Any] = weakref.WeakSet()
        self._sessions: dict[tuple[str, str], boto3.session.Session] = {}
        self._sessions_lock = threading.Lock()

    @property
    def capabilities(self) -> frozenset[Capability]:
        """What it has."""
        return frozenset(Capability) - self.lacks.keys()

    @classmethod
    @abstractmethod
    def absent(cls) -> str | None:
        """Return why it cannot be started here, with the command that helps, or None."""

    @property
    @abstractmethod
    def endpoint_url(self) -> str:
        """Where it answers."""

    @abstractmethod
    def start(self) -> Self:
        """Start it and wait until it answers, or raise `ConfigurationError` with its last words."""

    @abstractmethod
    def kill(self) -> None:
        """End it as a power cut would; its port and files are kept for `restart()`."""

    @abstractmethod
    def restart(self) -> Self:
        """Start it again at the same address, with what it had made durable."""

    @abstractmethod
    def _end(self) -> None: ...

    @abstractmethod
    def _new_client(self, session: boto3.session.Session, config: dict[str, Any]) -> Any: ...

    def client(self, *, region_name: str = "us-east-1", access_key_id: str = "testing", **config: Any) -> Any:
        """Return a boto3 low-level client: invented credentials, no retries; `config` goes to botocore's `Config`.

        The clients of one Region and key come from one session: see `dynamodb_client`.
        """
        with self._sessions_lock:
            key = (region_name, access_key_id)
            if key not in self._sessions:
                self._sessions[key] = local_session(region_name=region_name, access_key_id=access_key_id)
            client = self._new_client(self._sessions[key], config)
            self._clients.add(client)
        return client

    def stop(self) -> None:
        """Close the clients and end it; its data is lost."""
        for client in list(self._clients):
            client.close()
        self._end()

    def __enter__(self) -> Self:
        return self.start()

    def __exit__(self, *exception: object) -> None:
        self.stop()


class ProcessEngine(Engine):
    """An engine in a process of its own, tied to this one: it ends when we do, however we end."""

    def __init__(self) -> None:
        super().__init__()
        self._server = LoopbackServer(self.name, self._command)

    @staticmethod
    @abstractmethod
    def _command(port: int, directory: Path) -> Command: ...

    @property
    def endpoint_url(self) -> str:
        """Where it answers: always 127.0.0.1."""
        return self._server.endpoint_url

    @property
    def pid(self) -> int:
        """The engine's own process id, for signals."""
        return self._server.pid

    def start(self) -> Self:
        """Start it on a free port and wait until it answers a ListTables (30 s at most)."""
        reason = self.absent()
        if reason is not None:
            raise ConfigurationError(f"{self.name} cannot be started here: {reason}")
        self._server.start()
        return self

    def kill(self) -> None:
        """SIGKILL."""
        self._server.kill()

    def restart(self) -> Self:
        """Kill it if it runs and start it at the same address with the same files."""
        self._server.restart()
        return self

    def _end(self) -> None:
        self._server.stop()

    def _new_client(self, session: boto3.session.Session, config: dict[str, Any]) -> Any:
        return dynamodb_client(self.endpoint_url, session=session, **config)


class MiniStack(ProcessEngine):
    """MiniStack, from PyPI: the engine behind `ReliableWriter.local()`; Regions, accounts, S3 and STS."""

    name = "ministack"
    lacks = MappingProxyType(
        {
            Capability.DURABLE: "everything is in memory and gone after a kill",
            Capability.BATCH_GET_CAPACITY: "BatchGetItem tells no ConsumedCapacity",
            Capability.BATCH_LIMITS_ACROSS_TABLES: "BatchGetItem counts its 100 keys for each table apart",
            Capability.NUMBER_KEYS_CANONICAL: "a number key spelled in another way is another item",
            Capability.NUMBER_DUPLICATES_REFUSED: "it takes 1 and 1.0 for two keys",
            Capability.PATHS_UPDATED_ONCE: "one path may be set twice in one UpdateExpression",
        }
    )
    _command = staticmethod(ministack_command)

    @classmethod
    def absent(cls) -> str | None:
        """Return why it cannot be started here, or None."""
        return ministack_missing()


class Dynoxide(ProcessEngine):
    """dynoxide, a native binary from npm that keeps its tables in one SQLite file: the engine to kill."""

    name = "dynoxide"
    lacks = MappingProxyType(
        {
            Capability.REGIONS: "all Regions share one set of tables",
            Capability.POINT_IN_TIME_RECOVERY: "it does not know UpdateContinuousBackups",
            Capability.NUMBER_DUPLICATES_REFUSED: "a batch may name 1 and 1.0, although they are one key",
        }
    )

    @classmethod
    def absent(cls) -> str | None:
        """Return why it cannot be started here, or None."""
        return _missing_file(cls._binary())

    @staticmethod
    def _binary() -> Path:
        return engines_directory() / "node_modules/@dynoxide/linux-x64/dynoxide"

    @staticmethod
    def _command(port: int, directory: Path) -> Command:
        database = directory / "tables.sqlite"
        return Command(
            argv=(
                *(str(Dynoxide._binary()), "serve"),
                *("--host", HOST, "--port", str(port), "--db-path", str(database)),
            )
        )


class Dynalite(ProcessEngine):
    """dynalite, from npm: the stand-in for engines without transactions."""

    name = "dynalite"
    lacks = MappingProxyType(
        {
            Capability.TRANSACTIONS: "it does not know TransactWriteItems and TransactGetItems",
            Capability.REQUEST_TOKENS: "it has no transactions",
            Capability.TRANSACTION_SIZE_LIMIT: "it has no transactions",
            Capability.OLD_ITEM_ON_FAILED_CONDITION: "it ignores ReturnValuesOnConditionCheckFailure",
            Capability.NESTING_LIMIT: "lists may be nested deeper than 32 levels",
            Capability.TTL: "it does not know UpdateTimeToLive, although DescribeTimeToLive answers",
            Capability.POINT_IN_TIME_RECOVERY: "it does not know UpdateContinuousBackups",
            Capability.DELETION_PROTECTION: "it ignores DeletionProtectionEnabled",
            Capability.REGIONS: "all Regions share one set of tables",
            Capability.DURABLE: "everything is in memory and gone after a kill",
        }
    )

    @classmethod
    def absent(cls) -> str | None:
        """Return why it cannot be started here, or None."""
        return _missing_program("node") or _missing_file(cls._script())

    @staticmethod
    def _script() -> Path:
        return engines_directory() / "node_modules/dynalite/cli.js"

    @staticmethod
    def _command(port: int, _directory: Path) -> Command:
        at_once = ("--createTableMs", "0", "--deleteTableMs", "0", "--updateTableMs", "0")
        return Command(
            argv=(
                *(_program("node"), str(Dynalite._script())),
                *("--host", HOST, "--port", str(port), *at_once),
            )
        )


class DynamoDBLocal(ProcessEngine):
    """DynamoDB Local, AWS's own, in memory: jars from Maven, or yours in $RELIABLE_WRITE_DYNAMODB_LOCAL.

    It has no option for the address it listens on; the few lines of Java beside this module see to it.
    """

    name = "dynamodb-local"
    lacks = MappingProxyType(
        {
            Capability.BATCH_GET_CAPACITY: "absent items in a BatchGetItem are billed nothing",
            Capability.NUMBER_DUPLICATES_REFUSED: "a batch may name 1 and 1.0, although they are one key",
            Capability.POINT_IN_TIME_RECOVERY: "it does not know UpdateContinuousBackups",
            Capability.DURABLE: "everything is in memory and gone after a kill",
        }
    )

    @classmethod
    def absent(cls) -> str | None:
        """Return why it cannot be started here, or None."""
        if _missing_program("java") or not _has_java_compiler():
            return "it needs a JDK of version 17 or later on the path (a JRE is not enough)"
        if not any(cls._jars().glob("DynamoDBLocal*.jar")):
            return f"no DynamoDBLocal*.jar in {cls._jars()}; run: {FETCH_COMMAND}"
        return None

    @staticmethod
    def _jars() -> Path:
        own = os.environ.get(DYNAMODB_LOCAL_VARIABLE)
        return Path(own).absolute() if own else engines_directory() / "dynamodb-local"

    @staticmethod
    def _command(port: int, directory: Path) -> Command:
        jars = DynamoDBLocal._jars()
        launcher = Path(__file__).with_name("LoopbackDynamoDBLocal.java")
        return Command(
            argv=(
                # Fast start over peak speed, and a heap that leaves room for other engines.
                *(_program("java"), "-XX:TieredStopAtLevel=1", "-Xmx1g", "-Djava.awt.headless=true"),
                *(f"-Djava.io.tmpdir={directory}", f"-Djava.library.path={jars}"),
                *("-cp", f"{jars}{os.sep}*", str(launcher)),
                *("-inMemory", "-disableTelemetry", "-port", str(port)),
            )
        )


class Moto(Engine):
    """moto, in this process, over all clients made here: for plumbing, never for guarantees.

    While it is started, moto also answers the boto3 clients that others make in this process for AWS's own
    endpoints.
    """

    name = "moto"
    lacks = MappingProxyType(
        {
            Capability.REQUEST_TOKENS: "it ignores ClientRequestToken: a repeated request is applied again",
            Capability.TRANSACTION_SIZE_LIMIT: "transactions may be of any size",
            Capability.CONSUMED_CAPACITY: "every put is one unit and every get half of one, whatever their size",
            Capability.BATCH_GET_CAPACITY: "the figures are invented",
            Capability.BATCH_LIMITS: "a batch may have no keys, or 26 writes",
            Capability.BATCH_DUPLICATES_REFUSED: "a batch may put and delete the same key",
            Capability.NUMBER_DUPLICATES_REFUSED: "a batch may name 1 and 1.0",
            Capability.NUMBERS_STORED_CANONICAL: "a number comes back as it was spelled",
            Capability.NUMBER_LIMITS: "numbers may have any length",
            Capability.ITEM_SIZE_LIMIT: "it weighs the item's JSON, so items a little under 400 KB are refused",
            Capability.NESTING_LIMIT: "values may be nested to any depth",
            Capability.SET_CHECKS: "sets may be empty or have a member twice",
            Capability.KEY_CHECKS: "key attributes may be of any type",
            Capability.INDEX_KEY_CHECKS: "index keys may be of any type",
            Capability.UNUSED_VALUES_REFUSED: "expression values may be unused",
            Capability.ATOMIC_UNDER_THREADS: "two threads may change one item at once, and one change is lost",
            Capability.MIXED_COMPARISONS: "a comparison across types ends in a TypeError of Python's",
            Capability.DURABLE: "there is no process to kill; everything is in memory",
        }
    )

    def __init__(self) -> None:
        super().__init__()
        self._mock: Any = None

    @classmethod
    def absent(cls) -> str | None:
        """Return why it cannot be started here, or None."""
        if importlib.util.find_spec("moto") is None:
            return "the package moto is not installed; run: pip install 'moto[dynamodb]'"
        return None

    @property
    def endpoint_url(self) -> str:
        """AWS's own address, which no request leaves this process for."""
        return "https://dynamodb.us-east-1.amazonaws.com"

    def start(self) -> Self:
        """Begin to answer."""
        reason = self.absent()
        if reason is not None:
            raise ConfigurationError(f"{self.name} cannot be started here: {reason}")
        if self._mock is None:
            from moto import mock_aws  # noqa: PLC0415 - importing this module must not load moto

            self._mock = mock_aws(config={"core": {"mock_credentials": False, "reset_boto3_session": False}})
            self._mock.start()
        return self

    def kill(self) -> None:
        """Stop answering and forget everything: there is no process to kill."""
        self._end()

    def restart(self) -> Self:
        """Begin again, empty."""
        self._end()
        return self.start()

    def _end(self) -> None:
        if self._mock is not None:
            self._mock.stop()
            self._mock = None

    def _new_client(self, session: boto3.session.Session, config: dict[str, Any]) -> Any:
        address = f"https://dynamodb.{session.region_name}.amazonaws.com"
        client = dynamodb_client(address, session=session, **config)
        client.meta.events.register_first("before-send.dynamodb", self._stay_in_this_process)
        return client

    def _stay_in_this_process(self, **_: Any) -> None:
        if self._mock is None:
            raise ConfigurationError("moto is stopped and this client would go to AWS; call start() first")


ENGINES: Mapping[str, type[Engine]] = MappingProxyType(
    {engine.name: engine for engine in (MiniStack, Dynoxide, Dynalite, DynamoDBLocal, Moto)}
)


def absent(name: str) -> str | None:
    """Return why the engine of this name cannot be started here, with the command that helps, or None."""
    return ENGINES[name].absent()


def engines_directory() -> Path:
    """Return $RELIABLE_WRITE_ENGINES, or the nearest `.engines` from here upwards."""
    own = os.environ.get(ENGINES_VARIABLE)
    if own:
        return Path(own).absolute()
    here = Path.cwd()
    candidates = (directory / ".engines" for directory in (here, *here.parents))
    return next((candidate for candidate in candidates if candidate.is_dir()), here / ".engines")


def _program(name: str) -> str:
    path = shutil.which(name)
    if path is None:
        raise ConfigurationError(f"{name} is not on the path")
    return path


def _missing_program(name: str) -> str | None:
    return None if shutil.which(name) else f"{name} is not on the path; install it and run: {FETCH_COMMAND}"


def _missing_file(path: Path) -> str | None:
    if sys.platform != "linux" and "linux" in path.parent.name:
        return "it is fetched for Linux on x86-64 only"
    return None if path.is_file() else f"{path} is missing; run: {FETCH_COMMAND}"


def _has_java_compiler() -> bool:
    java = Path(_program("java")).resolve()
    return (java.parent.parent / "lib" / "ct.sym").is_file()
