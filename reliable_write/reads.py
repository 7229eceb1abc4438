"""Consistent reads: whether a read asks for the latest committed state is told by where the code runs.

    ConsistentReadScope.install(client)           # once, for each client, resource or session

    with ConsistentReadScope():
        client.get_item(TableName="orders", Key=key)     # ConsistentRead=True, and so for all reads of this block

The scopes entered are kept in a context variable: asyncio tasks inherit them, and so do worker threads that are given
the context. An installed client adds `ConsistentRead` by itself, in a handler of the event `before-parameter-build`.
`provide-client-params`, which looks made for it, would not do: of what several handlers return there botocore takes the
first and drops the rest, be it another handler's table name or the copy that boto3 makes of a resource's values.
"""

from __future__ import annotations

import functools
import inspect
import weakref
from collections.abc import Callable, Mapping
from contextvars import ContextVar
from dataclasses import dataclass
from types import TracebackType
from typing import Any, Final, Literal, ParamSpec, Self, TypeVar, cast, get_args

import boto3.session

from reliable_write import limits
from reliable_write.clock import Deadline, SystemTime, TimeSource
from reliable_write.dynamodb import BotoCalls, CallFailed, Store
from reliable_write.errors import ConfigurationError, ConsistentReadRefusedError
from reliable_write.policy import FailureKind

P = ParamSpec("P")
R = TypeVar("R")

OnIndex = Literal["skip", "refuse"]
"""What becomes of a read of a global secondary index where reads are consistent: it is sent as it is, eventually
consistent, or refused before it is sent."""

Describe = Callable[[str, float], Mapping[str, Any]]
"""DescribeTable's `Table` for a table's name or ARN, within so many seconds. Raises `CallFailed`."""

_entered: ContextVar[tuple[ConsistentReadScope, ...]] = ContextVar("reliable_write_consistent_reads", default=())
"""The scopes the running code is in, innermost last. No token of it is kept: resetting by token raises in any context
but its own, and takes a scope along that was entered in between, as interleaved generators do."""


def consistent_here(default: bool = False) -> bool:
    """Whether reads are consistent where this is called: the innermost scope's say, and `default` outside of scopes."""
    entered = _entered.get()
    return entered[-1].consistent if entered else default


class ConsistentReadScope:
    """All reads in the block are strongly consistent; with `ConsistentReadScope(False)` none of them are.

    Holds for the record store, and for every boto3 client it was installed on. Scopes nest, the innermost decides. An
    instance may be entered any number of times, also by several tasks and threads at once. Also as `async with`, and as
    a decorator of functions and of coroutine functions: `@ConsistentReadScope()`.

    asyncio tasks made in the block inherit it. A thread does not: give it the context, as `asyncio.to_thread` does and
    `executor.submit(contextvars.copy_context().run, function)`.
    """

    def __init__(self, consistent: bool = True) -> None:
        if not isinstance(consistent, bool):
            raise TypeError(
                f"ConsistentReadScope takes True or False, not {type(consistent).__name__}. A decorator is written "
                "@ConsistentReadScope(), and a client is given to ConsistentReadScope.install(client)."
            )
        self.consistent: Final = consistent

    def __enter__(self) -> Self:
        _entered.set((*_entered.get(), self))
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, traceback: TracebackType | None
    ) -> None:
        """Take this scope's last entry away, and no other; nothing where it was entered in another context."""
        entered = _entered.get()
        for place in reversed(range(len(entered))):
            if entered[place] is self:
                _entered.set(entered[:place] + entered[place + 1 :])
                return

    async def __aenter__(self) -> Self:
        return self.__enter__()

    async def __aexit__(
        self, kind: type[BaseException] | None, error: BaseException | None, traceback: TracebackType | None
    ) -> None:
        self.__exit__(kind, error, traceback)

    def __call__(self, function: Callable[P, R]) -> Callable[P, R]:
        """The function, run in this scope. Raises `TypeError` for generators: their consumers' code runs in between."""
        if inspect.isgeneratorfunction(function) or inspect.isasyncgenfunction(function):
            raise TypeError(
                f"{function.__qualname__} is a generator: what iterates it runs between its steps, and would be in the "
                "scope as well. Use `with ConsistentReadScope():` inside, around the reads alone."
            )
        if inspect.iscoroutinefunction(function):

            @functools.wraps(function)
            async def run_async(*args: P.args, **kwargs: P.kwargs) -> Any:
                with self:
                    return await function(*args, **kwargs)

            return cast("Callable[P, R]", run_async)

        @functools.wraps(function)
        def run(*args: P.args, **kwargs: P.kwargs) -> R:
            with self:
                return function(*args, **kwargs)

        return run

    @staticmethod
    def install(client: Any, *, everywhere: bool = False, on_index: OnIndex = "skip") -> None:
        """Make GetItem, Query, Scan and BatchGetItem of this client go by the scope.

        `client` is a boto3 DynamoDB client, a resource or a table of one (they share one client), or a
        `boto3.session.Session`: then every DynamoDB client and resource it makes from now on. With `everywhere` this
        client's reads are consistent where no scope says otherwise. A `ConsistentRead` given with a call always wins.

        A global secondary index cannot be read consistently: its reads are left as they are, or raise
        `ConsistentReadRefusedError` (`on_index="refuse"`). Which indexes are local is asked by DescribeTable, believed
        for `limits.SCHEMA_TTL_SECONDS`; where it cannot be known, the read raises that error too.

        Installing again replaces the options; install before threads share the client. Raises `ConfigurationError` for
        what is none of these. TransactGetItems is always consistent; PartiQL is not covered.
        """
        if on_index not in get_args(OnIndex):
            raise ConfigurationError(f"on_index is one of {', '.join(get_args(OnIndex))}, not {on_index!r}.")
        options = _Options(everywhere, on_index)
        if isinstance(client, boto3.session.Session):
            _install_on_session(client, options)
        else:
            _install_on_client(_client_of(client), options)

    @staticmethod
    def uninstall(client: Any) -> None:
        """Undo `install`; no harm where it was not installed. Clients that a session has made keep theirs."""
        if isinstance(client, boto3.session.Session):
            client.events.unregister(_CLIENT_CLASS_EVENT, unique_id=_SESSION_ID)
        else:
            events = _client_of(client).meta.events
            events.unregister(_REQUEST_EVENT, unique_id=_REQUEST_ID)
            events.unregister(_PRESENCE_EVENT, unique_id=_PRESENCE_ID)


# --- on a client ----------------------------------------------------------------------------------------------------

_REQUEST_EVENT: Final = "before-parameter-build.dynamodb"
_REQUEST_ID: Final = "reliable-write-consistent-reads"
_PRESENCE_EVENT: Final = "reliable-write-consistent-reads"
"""Of our own: an installed handler answers it with itself, so that nothing need remember which clients have one."""
_PRESENCE_ID: Final = "reliable-write-consistent-reads-presence"
_CLIENT_CLASS_EVENT: Final = "creating-client-class.dynamodb"
_SESSION_ID: Final = "reliable-write-consistent-reads-session"


@dataclass(frozen=True, slots=True)
class _Options:
    everywhere: bool
    on_index: OnIndex


def _client_of(given: Any) -> Any:
    """The client under a resource or a table; what has none is taken for a client."""
    return getattr(getattr(given, "meta", None), "client", given)


def _install_on_client(client: Any, options: _Options) -> None:
    """Registering is done once for each id, so of two who install at once one handler stays, and gets the options."""
    BotoCalls(client)  # refuses what is no DynamoDB client, and registers what our own DescribeTable goes by
    events = client.meta.events
    events.register(_PRESENCE_EVENT, _Handler(client, SystemTime(), options).present, unique_id=_PRESENCE_ID)
    handler = next(answer for _, answer in events.emit(_PRESENCE_EVENT) if isinstance(answer, _Handler))
    handler.options = options
    # After all other handlers, which may still change the table's name.
    events.register_last(_REQUEST_EVENT, handler.ask, unique_id=_REQUEST_ID)


def _install_on_session(session: boto3.session.Session, options: _Options) -> None:
    """Clients copy their session's handlers, but a handler is not told for which client it is called, and must ask that
    client about tables. So each client installs its own when it is made: botocore's event for extending clients.
    """

    class Installed:
        def __init__(self, *args: Any, **kwargs: Any) -> None:
            super().__init__(*args, **kwargs)
            _install_on_client(self, options)

    def extend(base_classes: list[type], **_: Any) -> None:
        base_classes.insert(0, Installed)

    session.events.unregister(_CLIENT_CLASS_EVENT, unique_id=_SESSION_ID)
    session.events.register(_CLIENT_CLASS_EVENT, extend, unique_id=_SESSION_ID)


class _Handler:
    """Adds `ConsistentRead` to one client's requests.

    What it changes is botocore's own dict of the call's keywords; what the caller put into them is left as it is.
    """

    def __init__(self, client: Any, time: TimeSource, options: _Options) -> None:
        self.options = options
        self._local_indexes = LocalIndexes(describe_by(client, time), time)

    def present(self, **_: Any) -> Self:
        return self

    def ask(self, params: dict[str, Any], model: Any, **_: Any) -> None:
        """Handle one request, before botocore has validated it."""
        if model.name == "DescribeTable" and (table := _describing.get()) is not None:
            params["TableName"] = table
        options = self.options
        if not consistent_here(options.everywhere):
            return
        if model.name == "GetItem":
            params.setdefault("ConsistentRead", True)
        elif model.name == "BatchGetItem" and isinstance(params.get("RequestItems"), Mapping):
            params["RequestItems"] = {table: _asking(keys) for table, keys in params["RequestItems"].items()}
        elif model.name in ("Query", "Scan") and "ConsistentRead" not in params:
            self._ask_table_or_index(params, options.on_index)

    def _ask_table_or_index(self, params: dict[str, Any], on_index: OnIndex) -> None:
        table, index = params.get("TableName"), params.get("IndexName")
        if not (isinstance(table, str) and isinstance(index, str)) or self._is_local(table, index):
            params["ConsistentRead"] = True
        elif on_index == "refuse":
            raise ConsistentReadRefusedError(
                f"Index {index!r} of table {table!r} is not a local one, and DynamoDB reads no global secondary index "
                "consistently. The read was not sent. Read the table or a local index, or say that this read may be "
                "eventually consistent: ConsistentRead=False with the call, or a block of ConsistentReadScope(False).",
                table=table,
                index=index,
            )

    def _is_local(self, table: str, index: str) -> bool:
        """Also where there is no such table: DynamoDB's own answer to the read tells that best."""
        try:
            local = self._local_indexes.of(table)
        except CallFailed as failure:
            raise ConsistentReadRefusedError(
                f"It is not known whether index {index!r} of table {table!r} can be read consistently: {failure}. "
                "The read was not sent. It needs dynamodb:DescribeTable on the table, or a ConsistentRead of its own: "
                "True for a local index, False for a global one.",
                table=table,
                index=index,
                retryable=failure.kind.retryable,
            ) from failure.__cause__
        return local is None or index in local


def _asking(keys: Any) -> Any:
    return {"ConsistentRead": True, **keys} if isinstance(keys, Mapping) else keys


# --- which indexes are local ----------------------------------------------------------------------------------------


_describing: ContextVar[str | None] = ContextVar("reliable_write_describing_table", default=None)
"""The table we ask about in this thread. Handlers that put a prefix to names have done so to the name in the read; what
they do to it once more in our DescribeTable is taken back."""


def describe_by(client: Any, time: TimeSource) -> Describe:
    """DescribeTable by this client, with our patience instead of its own. The client is not kept alive by it."""
    reference = weakref.ref(client)

    def describe(table: str, seconds: float) -> Mapping[str, Any]:
        token = _describing.set(table)
        try:
            return Store(BotoCalls(reference()), time).describe(table, Deadline.after(seconds, time))
        finally:
            _describing.reset(token)

    return describe


class LocalIndexes:
    """The names of tables' local secondary indexes, each believed for `limits.SCHEMA_TTL_SECONDS`.

    They are fixed when a table is made, so that only a table made anew under its name has others; what is not among
    them is taken for global. Safe for threads without a lock: answers are only put in and taken out whole.
    """

    def __init__(self, describe: Describe, time: TimeSource) -> None:
        self._describe = describe
        self._time = time
        self._known: dict[str, tuple[float, frozenset[str]]] = {}

    def of(self, table: str) -> frozenset[str] | None:
        """Those of a table, given by name or ARN; None where there is no such table, which is not remembered.

        Raises `CallFailed` where a table that was not known cannot be asked for. A known answer outlives a control
        plane that does not answer.
        """
        now = self._time.elapsed_seconds()
        known = self._known.get(table)
        if known is not None and now < known[0]:
            return known[1]
        patience = limits.ATTEMPT_DEADLINE_SECONDS if known is None else limits.SCHEMA_REFRESH_SECONDS
        try:
            names, seconds = _local_names(self._describe(table, patience)), limits.SCHEMA_TTL_SECONDS
        except CallFailed as failure:
            if failure.kind in (FailureKind.TABLE_MISSING, FailureKind.VALIDATION):
                self._known.pop(table, None)
                return None
            if known is None:
                raise
            names, seconds = known[1], limits.SCHEMA_RETRY_SECONDS
        self._known[table] = (now + seconds, names)
        return names


def _local_names(description: Mapping[str, Any]) -> frozenset[str]:
    return frozenset(index["IndexName"] for index in description.get("LocalSecondaryIndexes") or ())
