"""A writer survives `fork()`: connections, locks, threads and queues stay the parent's; the child makes its own.

Children are made with `os.fork` in this process, beside its running threads, because that is what application
servers do.
"""

from __future__ import annotations

import multiprocessing
import os
import pickle
import signal
import socket
import threading
import time
import traceback
import warnings
from collections.abc import Callable, Iterator
from functools import partial
from pathlib import Path
from typing import Any

import boto3
import pytest

from reliable_write import ConfigurationError, NestedScopeError, ReliableWriter, ReliableWriteScope, WrongThreadError
from reliable_write.testing.faults import Call, FaultPlan
from tests.integration.test_promises import left_behind
from tests.world import REGION, World

CHILD_SECONDS_MAX = 30.0
"""A child that takes longer hangs, and is killed."""
LOOK_SECONDS = 0.005
FORKS_UNDER_LOAD = 12

# Python 3.12 and later warn of a fork beside threads, which is what is tested here.
pytestmark = pytest.mark.filterwarnings("ignore:This process .* is multi-threaded:DeprecationWarning")


def in_child(work: Callable[[], Any]) -> Any:
    """What `work` returns in a forked child; fails where it raises or hangs.

    The child leaves through `os._exit`, so that pytest's own ends are not run twice.
    """
    reading, writing = os.pipe()
    pid = os.fork()
    if pid == 0:
        _work_and_exit(work, writing)
    os.close(writing)
    code = _end_of(pid)
    with os.fdopen(reading, "rb") as pipe:
        said = pipe.read()
    assert code is not None, "the child hangs"
    assert code == 0, said.decode(errors="replace")
    return pickle.loads(said)  # noqa: S301 - our own child wrote it


def _work_and_exit(work: Callable[[], Any], writing: int) -> None:
    try:
        said, code = pickle.dumps(work()), 0
    except BaseException:  # noqa: BLE001 - the parent shows it
        said, code = traceback.format_exc().encode(), 1
    with os.fdopen(writing, "wb") as pipe:
        pipe.write(said)
    os._exit(code)


def _end_of(pid: int) -> int | None:
    """The exit code; None where it had to be killed."""
    give_up = time.monotonic() + CHILD_SECONDS_MAX
    while time.monotonic() < give_up:
        ended, status = os.waitpid(pid, os.WNOHANG)
        if ended:
            return os.waitstatus_to_exitcode(status)
        threading.Event().wait(LOOK_SECONDS)
    os.kill(pid, signal.SIGKILL)
    os.waitpid(pid, 0)
    return None


@pytest.fixture
def own_client_writer(world: World) -> Iterator[Callable[..., ReliableWriter]]:
    """A maker of writers that make their own clients, as applications' do."""
    writers = []

    def make(**settings: Any) -> ReliableWriter:
        session = boto3.Session(aws_access_key_id="testing", aws_secret_access_key="testing", region_name=REGION)
        writers.append(ReliableWriter(world.settings(**settings), session=session))
        return writers[-1]

    yield make
    for writer in writers:
        writer.close()


def write(writer: ReliableWriter, tables: list[str], key: str) -> str:
    with ReliableWriteScope(writer) as scope:
        for table in tables:
            scope.put_item(table, Item={"id": key})
        return scope.commit().stamp


def stamps(world: World, tables: list[str], key: str) -> set[str]:
    found = [world.item(table, id={"S": key}) or {} for table in tables]
    return {item.get("_rw", {}).get("S", "absent") for item in found}


def connections(endpoint_url: str) -> set[tuple[int, int]]:
    """Local and peer port of every socket this process has open to the engine."""
    port = int(endpoint_url.rpartition(":")[2])
    pairs = set()
    for descriptor in Path("/proc/self/fd").iterdir():
        try:
            with socket.socket(fileno=os.dup(int(descriptor.name))) as copy:
                if copy.getpeername()[1] == port:
                    pairs.add((copy.getsockname()[1], port))
        except OSError:  # no socket, or the listing itself
            continue
    return pairs


def test_a_writer_used_before_a_fork_writes_in_the_child_and_in_the_parent(
    world: World, own_client_writer: Callable[..., ReliableWriter]
) -> None:
    tables = [world.table("one"), world.table("two")]
    writer = own_client_writer()
    write(writer, tables, "before")
    child_stamp = in_child(lambda: write(writer, tables, "child"))
    parent_stamp = write(writer, tables, "parent")
    assert stamps(world, tables, "child") == {child_stamp}
    assert stamps(world, tables, "parent") == {parent_stamp}
    assert child_stamp != parent_stamp


def test_the_child_uses_no_connection_of_the_parent(
    world: World, own_client_writer: Callable[..., ReliableWriter]
) -> None:
    """Two processes that write to one socket would read each other's answers."""
    tables = [world.table("one"), world.table("two")]
    writer = own_client_writer()
    write(writer, tables, "before")
    inherited = connections(world.engine.endpoint_url)
    assert inherited
    parents_client = writer.client

    def write_and_look() -> tuple[bool, int, set[tuple[int, int]]]:
        with FaultPlan(parents_client) as parents_calls:
            write(writer, tables, "child")
        own = writer.client is not parents_client
        return own, len(parents_calls.calls), connections(world.engine.endpoint_url) - inherited

    own, calls_on_the_parents_client, new = in_child(write_and_look)
    assert own
    assert calls_on_the_parents_client == 0
    assert new


def test_a_recovery_kept_over_the_fork_works_with_the_childs_own_connections(
    world: World, own_client_writer: Callable[..., ReliableWriter]
) -> None:
    tables = [world.table("one"), world.table("two")]
    left_behind(world, *tables)
    writer = own_client_writer()
    recovery = writer.recovery
    recovery.look()
    inherited = connections(world.engine.endpoint_url)
    parents_client = writer.client

    def look_and_resume() -> tuple[list[str], int, set[tuple[int, int]]]:
        with FaultPlan(parents_client) as parents_calls:
            recovery.look()
            reports = recovery.resume_all()
        told = [str(report.resumed) for report in reports]
        return told, len(parents_calls.calls), connections(world.engine.endpoint_url) - inherited

    told, calls_on_the_parents_client, new = in_child(look_and_resume)
    assert told == ["finished"]
    assert calls_on_the_parents_client == 0
    assert new
    assert recovery.resume_all() == []
    assert len(world.items(tables[0])) == 1


def test_a_writer_with_a_given_client_refuses_in_the_child_and_goes_on_in_the_parent(world: World) -> None:
    table = world.table("one")
    writer = world.writer()
    write(writer, [table], "before")

    def refused() -> list[str]:
        words = []
        for use in (
            lambda: write(writer, [table], "child"),
            writer.recovery.look,
            lambda: writer.client,
        ):
            with pytest.raises(ConfigurationError) as error:
                use()
            words.append(str(error.value))
        writer.close()  # harmless: nothing of it is the child's
        return words

    for words in in_child(refused):
        assert "after the fork" in words
        assert str(os.getpid()) in words
    assert stamps(world, [table], "child") == {"absent"}
    assert stamps(world, [table], "parent") == {"absent"}
    write(writer, [table], "parent")
    assert stamps(world, [table], "parent") != {"absent"}


def test_a_scope_begun_before_the_fork_is_refused_in_the_child(
    world: World, own_client_writer: Callable[..., ReliableWriter]
) -> None:
    """Both would commit it, the same operations under two stamps."""
    table = world.table("one")
    writer = own_client_writer()
    with ReliableWriteScope(writer) as scope:
        scope.put_item(table, Item={"id": "thing"})

        def refused() -> list[str]:
            words = []
            for use in (
                scope.commit,
                scope.discard,
                lambda: scope.put_item(table, Item={"id": "other"}),
            ):
                with pytest.raises(WrongThreadError, match="process") as error:
                    use()
                words.append(str(error.value))
            return words

        assert len(in_child(refused)) == 3
        assert world.items(table) == []
        receipt = scope.commit()
    assert stamps(world, [table], "thing") == {receipt.stamp}


def test_a_child_forked_inside_a_scope_may_open_its_own(
    world: World, own_client_writer: Callable[..., ReliableWriter]
) -> None:
    """The scope that is open there is the parent's business; in one process nesting is still refused."""
    table = world.table("one")
    writer = own_client_writer()
    with ReliableWriteScope(writer) as scope:
        scope.put_item(table, Item={"id": "parent"})

        def write_two_deep() -> None:
            write(writer, [table], "child")
            with ReliableWriteScope(writer), pytest.raises(NestedScopeError):
                write(writer, [table], "nested")

        in_child(write_two_deep)
        assert [item["id"]["S"] for item in world.items(table)] == ["child"]
        scope.commit()
    assert len(world.items(table)) == 2


@pytest.mark.usefixtures("finished_entries_go")
def test_finished_entries_waiting_in_the_parent_are_not_deleted_by_the_child(
    world: World, own_client_writer: Callable[..., ReliableWriter]
) -> None:
    """They are the parent's to delete, over the parent's connections."""
    table = world.table("one")
    writer = own_client_writer()
    writer.engine()
    parent, stalling, go_on = os.getpid(), threading.Event(), threading.Event()

    def stall(_call: Call) -> None:
        stalling.set()
        if os.getpid() == parent:
            go_on.wait(CHILD_SECONDS_MAX)

    with FaultPlan(writer.client) as faults:
        faults.on("BatchWriteItem", stall)
        write(writer, [table], "being deleted")
        assert stalling.wait(CHILD_SECONDS_MAX)
        write(writer, [table], "waiting")
        inherited = writer.engine()
        assert len(inherited.finished._waiting) == 1

        def end_everything() -> None:
            inherited.close()  # as the interpreter's exit does
            write(writer, [table], "child")
            writer.close()

        in_child(end_everything)
        assert len(world.records("J#")) == 2
        go_on.set()
        writer.close()
    assert world.records("J#") == []
    assert len(world.items(table)) == 3


def test_a_fork_beside_committing_threads_does_not_hang_the_child(
    world: World, own_client_writer: Callable[..., ReliableWriter]
) -> None:
    """Locks that a thread held at the fork are held for ever in the child: it must need none of them."""
    tables = [world.table("one"), world.table("two")]
    writer = own_client_writer(delete_finished_inline=True)
    stop = threading.Event()
    written: list[str] = []

    def write_on(name: str) -> None:
        number = 0
        while not stop.is_set():
            number += 1
            written.append(write(writer, tables, f"{name}-{number}"))

    threads = [threading.Thread(target=write_on, args=(f"thread-{number}",)) for number in range(3)]
    for thread in threads:
        thread.start()
    try:
        children = [in_child(partial(write, writer, tables, f"child-{at}")) for at in range(FORKS_UNDER_LOAD)]
    finally:
        stop.set()
        for thread in threads:
            thread.join(CHILD_SECONDS_MAX)
    assert len(written) > FORKS_UNDER_LOAD
    assert len({*written, *children}) == len(written) + len(children)
    for at, stamp in enumerate(children):
        assert stamps(world, tables, f"child-{at}") == {stamp}


def test_every_lock_held_at_the_fork_is_left_behind(
    world: World, own_client_writer: Callable[..., ReliableWriter]
) -> None:
    """What the test above leaves to chance: the parent's locks are held, all of them, while the child is made."""
    tables = [world.table("one"), world.table("two")]
    writer = own_client_writer()
    write(writer, tables, "before")
    engine = writer.engine()
    with (
        writer._process.lock,
        engine.finished._changed,
        engine.schemas._lock,
        engine.committer._clock._lock,
    ):
        stamp = in_child(lambda: write(writer, tables, "child"))
    assert stamps(world, tables, "child") == {stamp}


def test_a_multiprocessing_child_writes_and_exits_cleanly(
    world: World, own_client_writer: Callable[..., ReliableWriter]
) -> None:
    tables = [world.table("one"), world.table("two")]
    writer = own_client_writer()
    write(writer, tables, "before")
    with warnings.catch_warnings():
        warnings.simplefilter("ignore", DeprecationWarning)
        child = multiprocessing.get_context("fork").Process(target=write, args=(writer, tables, "child"))
        child.start()
    child.join(CHILD_SECONDS_MAX)
    code = child.exitcode
    if code is None:
        child.kill()
    assert code == 0
    assert stamps(world, tables, "child") != {"absent"}
    write(writer, tables, "parent")
