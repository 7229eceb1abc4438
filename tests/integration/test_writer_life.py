"""A writer's hard times: before the endpoint answers, after `close()`, while the interpreter ends, without threads.

Once a write is past its commit point it is propagated and has an outcome, wherever its writer stands.
"""

from __future__ import annotations

import gc
import subprocess
import sys
import threading
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from typing import Annotated, Any, NoReturn

import pytest
from boto3.dynamodb.conditions import Key

from reliable_write import (
    ConfigurationError,
    HashKey,
    PropagationPendingError,
    RangeKey,
    Record,
    RecordStore,
    ReliableWriter,
    ReliableWriteScope,
)
from reliable_write.recovery import Resumed
from reliable_write.testing.faults import Call, FaultPlan, deny
from tests.integration.test_promises import left_behind, name, put, settled, shown
from tests.world import World

PATIENCE_SECONDS = 30.0

# --- on an engine of its own ---------------------------------------------------------------------------------------


def test_a_local_writer_makes_tables_with_range_keys_and_numbers_too() -> None:
    class Line(Record, table="lines"):
        order: Annotated[str, HashKey()]
        number: Annotated[int, RangeKey()]

    with ReliableWriter.local(tables={"lines": ("order", "number:N"), "orders": "id"}) as writer:
        store = RecordStore(writer)
        store.put_all(Line(order="o-1", number=number) for number in (10, 9, 1))
        with writer.begin() as scope:
            scope.put_item("orders", Item={"id": "o-1"})
        assert [line.number for line in store.query(Line, "o-1", Key("number").gt(1))] == [9, 10]


@pytest.mark.parametrize("keys", ["", (), ("a", "b", "c"), ("a", "")])
def test_a_local_writer_refuses_what_is_no_key_before_it_starts_an_engine(keys: Any) -> None:
    with pytest.raises(ConfigurationError, match="its hash and range key"):
        ReliableWriter.local(tables={"orders": keys})


# --- at the interpreter's end -------------------------------------------------------------------------------------

PRELUDE = """
import atexit, concurrent.futures.thread as pools, sys, threading
from reliable_write import ReliableWriter, ReliableWriteScope
tables = sys.argv[1:]
def write(key):
    with ReliableWriteScope(writer) as scope:
        for table in tables:
            scope.put_item(table, Item={"id": key, "v": "a"})
        print(key, scope.commit().stamp, flush=True)
"""
FROM_A_THREAD = """
def outlive():
    pause = threading.Event()
    while not pools._shutdown:  # the interpreter has closed all thread pools
        pause.wait(0.005)
    write("thread")
threading.Thread(target=outlive).start()
"""
ENDINGS = {
    "a thread, the first use": f"{PRELUDE}\nwriter = ReliableWriter()\n{FROM_A_THREAD}",
    "a thread, used before": f"{PRELUDE}\nwriter = ReliableWriter()\nwrite('main')\n{FROM_A_THREAD}",
    "atexit, registered first": f"{PRELUDE}\natexit.register(write, 'exit')\nwriter = ReliableWriter()\nwrite('main')",
    "atexit, registered last": f"{PRELUDE}\nwriter = ReliableWriter()\nwrite('main')\natexit.register(write, 'exit')",
    "atexit, the first use": f"{PRELUDE}\nwriter = ReliableWriter()\natexit.register(write, 'exit')",
}
LATEST = {
    "the first use, registered first": f"{PRELUDE}\natexit.register(write, 'exit')\nwriter = ReliableWriter()",
    "made there": f"""{PRELUDE}
def make_and_write():
    global writer
    writer = ReliableWriter()
    write("exit")
atexit.register(make_and_write)
""",
}


@pytest.mark.parametrize("ending", ENDINGS)
def test_a_write_is_applied_while_the_interpreter_ends(world: World, ending: str) -> None:
    assert written_at_the_end(world, ENDINGS[ending]) & {"thread", "exit"}
    assert world.records("J#") == []


@pytest.mark.parametrize("ending", LATEST)
def test_a_writer_first_used_when_nothing_can_close_it_any_more_lets_the_process_end(world: World, ending: str) -> None:
    """Its finished entry is left to a recovery; waiting for the thread that would delete it hung the process."""
    assert written_at_the_end(world, LATEST[ending]) == {"exit"}
    world.writer().recovery.resume_all()
    assert world.records("J#") == []


def written_at_the_end(world: World, script: str) -> set[str]:
    """The keys a process says it has written, once they are found written."""
    tables = [world.table("one"), world.table("two"), world.table("three")]
    done = subprocess.run(
        [sys.executable, "-c", script, *tables],
        capture_output=True,
        text=True,
        check=False,
        timeout=PATIENCE_SECONDS,
        env={"PYTHONPATH": ":".join(sys.path), **world.environment()},
    )
    assert done.stderr == ""
    assert done.returncode == 0
    told = dict(line.split() for line in done.stdout.splitlines())
    for key, stamp in told.items():
        for table in tables:
            item = world.item(table, id={"S": key})
            assert item is not None
            assert item["_rw"]["S"] == stamp
    return set(told)


# --- after close --------------------------------------------------------------------------------------------------


def test_a_scope_recorded_before_close_and_committed_after_it_is_applied(world: World) -> None:
    one, two = world.table("one"), world.table("two")
    writer = world.writer()
    scope = ReliableWriteScope(writer)
    for table in (one, two):
        scope.put_item(table, Item={"id": "x", "v": "a"})
    writer.close()
    receipt = scope.commit()
    assert receipt.operations == 2
    assert shown(world, one) == shown(world, two) == "a"
    assert world.records("J#") == [], "there is no loop any more that would delete it later"


def test_a_scope_committed_after_close_that_cannot_be_applied_says_so(world: World) -> None:
    one, two = world.table("one"), world.table("two")
    writer = world.writer()
    scope = ReliableWriteScope(writer)
    for table in (one, two):
        scope.put_item(table, Item={"id": "x", "v": "a"})
    plan = FaultPlan(writer.client).on("PutItem", deny, having=name(one))
    writer.close()
    with plan, pytest.raises(PropagationPendingError):
        scope.commit()
    assert plan.injected == 1
    assert shown(world, two) == "a"
    settled(world)
    assert shown(world, one) == "a"


# --- a recovery of a writer that nobody else holds ----------------------------------------------------------------


def test_the_recovery_of_a_temporary_writer_works_with_all_its_threads(world: World) -> None:
    """It keeps its writer: a writer that is collected closes its threads."""
    tables = [world.table("one"), world.table("two")]
    left_behind(world, *tables)
    client = world.engine.client(max_pool_connections=40)
    together = threading.Barrier(len(tables))
    with FaultPlan(client) as plan:
        for table in tables:
            plan.on("PutItem", lambda _: together.wait(PATIENCE_SECONDS / 3), having=name(table))
        recovery = ReliableWriter(world.settings(), client=client).recovery
        recovery.look()
        gc.collect()
        (report,) = recovery.resume_all()
    assert plan.injected == 2
    assert not together.broken, "one after the other: its threads are closed"
    assert report.resumed is Resumed.FINISHED


def test_the_recovery_of_a_temporary_writer_in_one_expression(world: World) -> None:
    one, two = world.table("one"), world.table("two")
    left_behind(world, one, two)
    client = world.engine.client(max_pool_connections=40)
    (report,) = ReliableWriter(world.settings(), client=client).recovery.resume_all()
    assert report.resumed is Resumed.FINISHED
    assert shown(world, one) == shown(world, two) == "a"


# --- before the endpoint answers ----------------------------------------------------------------------------------


def test_threads_that_start_while_the_endpoint_is_away_wait_side_by_side(world: World) -> None:
    """One after the other, the last of ten would wait ten times as long for the same answer."""
    threads = 4
    together = threading.Barrier(threads)
    writer = world.writer()

    def meet_and_deny(call: Call) -> Any:
        together.wait(PATIENCE_SECONDS / 3)
        return deny(call)

    def use(_: int) -> type[Exception] | None:
        try:
            writer.engine()
        except ConfigurationError as error:
            return type(error)
        return None

    with FaultPlan(writer.client).on("GetItem", meet_and_deny) as plan, ThreadPoolExecutor(threads) as pool:
        told = list(pool.map(use, range(threads)))
    assert plan.count("GetItem") == threads
    assert not together.broken
    assert told == [ConfigurationError] * threads


def test_threads_that_start_at_once_share_one_set_of_parts(world: World) -> None:
    """Two clocks, or two queues of finished entries, would be one too many."""
    threads = 4
    together = threading.Barrier(threads)
    writer = world.writer()
    table = world.table("one")

    def use(number: int) -> int:
        put(writer, table, key=str(number), v="a")
        return id(writer.engine())

    plan = FaultPlan(writer.client).on("GetItem", lambda _: together.wait(PATIENCE_SECONDS / 3), times=threads)
    with plan, ThreadPoolExecutor(threads) as pool:
        assert len(set(pool.map(use, range(threads)))) == 1
    assert plan.injected == threads
    writer.close()
    assert len(world.items(table)) == threads
    assert world.records("J#") == []


# --- without threads ----------------------------------------------------------------------------------------------


def no_thread(_thread: threading.Thread) -> NoReturn:
    raise RuntimeError("can't start new thread")


def test_commits_succeed_and_entries_are_deleted_where_no_thread_can_be_started(
    world: World, monkeypatch: pytest.MonkeyPatch
) -> None:
    tables = [world.table("one"), world.table("two"), world.table("three")]
    writer = world.writer()
    with monkeypatch.context() as patch:
        patch.setattr(threading.Thread, "start", no_thread)
        assert put(writer, *tables, v="a").operations == 3
        assert world.records("J#") == []
        left_behind(world, *tables, v="b")
        settled(world)
    assert [shown(world, table) for table in tables] == ["b", "b", "b"]
    assert put(writer, *tables, v="c").superseded == (), "threads can be had again"
    writer.close()
    assert [shown(world, table) for table in tables] == ["c", "c", "c"]
    assert world.records("J#") == []


def test_a_put_that_found_no_thread_is_not_sent_once_more_by_one_that_gets_free(
    world: World, monkeypatch: pytest.MonkeyPatch
) -> None:
    """The pool has queued it all the same; after a delete that was acknowledged it would bring the item back."""
    busy, tables = world.table("busy"), [world.table("one"), world.table("two")]
    writer = world.writer(delete_finished_inline=True)
    arrived, go_on = threading.Barrier(3), threading.Event()

    def hold(_call: Call) -> None:
        arrived.wait(PATIENCE_SECONDS)
        go_on.wait(PATIENCE_SECONDS)

    def write_two() -> None:
        with writer.begin() as scope:
            scope.put_items(busy, [{"id": "a"}, {"id": "b"}])

    plan = FaultPlan(writer.client).on("PutItem", hold, times=2, having=name(busy))
    with ThreadPoolExecutor(1) as other:
        both = other.submit(write_two)
        arrived.wait(PATIENCE_SECONDS)  # the pool's two threads are busy
        with monkeypatch.context() as patch:
            patch.setattr(threading.Thread, "start", no_thread)
            put(writer, *tables, v="a")
            with writer.begin() as scope:
                for table in tables:
                    scope.delete_item(table, Key={"id": "x"})
        go_on.set()
        both.result()
    writer.close()  # waits for everything that is queued
    assert plan.injected == 2
    puts = [call for call in plan.calls if call.operation == "PutItem" and b'"T#' not in call.body]
    assert [sum(name(table) in call.body for call in puts) for table in tables] == [1, 1]
    assert [world.items(table) for table in tables] == [[], []]


# --- a logger that fails ------------------------------------------------------------------------------------------


class FailingLogger:
    """Of a service whose standard output is gone."""

    def __init__(self, make: Callable[[str], Any]) -> None:
        self._make = make

    def __getattr__(self, level: str) -> Any:
        return self._make(level)


def fail(*_: object, **__: object) -> NoReturn:
    raise ValueError("I/O operation on closed file")


@pytest.mark.parametrize("make", [lambda _level: fail, fail], ids=["when it is called", "when it is looked up"])
def test_a_logger_that_fails_decides_nothing(world: World, make: Callable[[str], Any]) -> None:
    one, two = world.table("one"), world.table("two")
    logger = FailingLogger(make)
    writer = world.writer(logger=logger, delete_finished_inline=True)
    assert put(writer, one, two, v="a").operations == 2
    assert world.records("J#") == []
    with FaultPlan(writer.client).on("PutItem", deny, having=name(one)), pytest.raises(PropagationPendingError):
        put(writer, one, two, v="b")
    (report,) = world.writer(logger=logger).recovery.resume_all()
    assert report.resumed is Resumed.FINISHED
    assert shown(world, one) == shown(world, two) == "b"
    with FaultPlan(writer.client).on("BatchWriteItem", deny):
        put(writer, one, v="c")
    assert shown(world, one) == "c"
