"""`every_crash_point` finds what it should find, names where, and refuses to pass where it has tried nothing."""

from __future__ import annotations

import contextlib
import itertools
import threading
from collections.abc import Callable, Iterator
from typing import Any

import pytest

from reliable_write import ConfigurationError, ReliableWriter, ReliableWriteScope
from reliable_write.testing import (
    EVERY_KIND,
    Aftermath,
    CrashPointsError,
    FaultPlan,
    Kind,
    Sandbox,
    SimulatedCrash,
    crash,
    deny,
    every_crash_point,
)
from reliable_write.testing.engines import Engine
from reliable_write.testing.kinds import CRASH_AFTER, CRASH_BEFORE, STALL, THROTTLE
from tests.proof.ledger import record

ONE, TWO = "kit-one", "kit-two"


@pytest.fixture
def sandbox(dynoxide: Engine) -> Iterator[Sandbox]:
    with Sandbox(dynoxide.endpoint_url, {ONE: "id", TWO: "id"}) as sandbox:
        yield sandbox


@pytest.fixture
def client(dynoxide: Engine) -> Any:
    """One that is older than every run."""
    return dynoxide.client()


class Shop:
    """A service in a sandbox; `plain` ones do not use the library, or not for all."""

    def __init__(self, sandbox: Sandbox, client: Any) -> None:
        self.sandbox, self.client = sandbox, client

    def scope(self) -> str:
        return self.write(self.sandbox.writer())

    def write(self, writer: ReliableWriter) -> str:
        with ReliableWriteScope(writer) as scope:
            scope.put_item(ONE, Item={"id": "a"})
            scope.put_item(TWO, Item={"id": "a"})
            return scope.commit().write_id

    def plain(self) -> None:
        for table in (ONE, TWO):
            self.client.put_item(TableName=table, Item={"id": {"S": "a"}})

    def agree(self, _after: Aftermath) -> None:
        assert self.sandbox.items(ONE) == self.sandbox.items(TWO)

    def tell_the_truth(self, after: Aftermath) -> None:
        """Whole or not at all; and whole, where it returned."""
        self.agree(after)
        assert len(self.sandbox.items(ONE)) == 1 or after.crashed or after.raised


@pytest.fixture
def shop(sandbox: Sandbox, client: Any) -> Shop:
    return Shop(sandbox, client)


# --- what it finds ------------------------------------------------------------------------------------------------


def test_a_scope_passes_both_crashes_at_each_of_its_calls(shop: Shop, sandbox: Sandbox) -> None:
    seen: list[Aftermath] = []

    def check(after: Aftermath) -> None:
        shop.agree(after)
        seen.append(after)

    tried = every_crash_point(shop.scope, check, sandbox=sandbox)
    first, *struck = seen
    assert (first.point, first.crashed) == (None, False)
    assert first.returned is not None
    assert (tried.crashed, tried.returned, tried.raised) == (len(struck), 0, 0)
    assert len(struck) == 2 * len(tried.calls) == len(tried.points) >= 16
    assert {after.point.kind.name for after in struck if after.point} == {"crash before", "crash after"}
    assert str(tried).startswith(f"{len(struck)} crash points at {len(tried.calls)} calls")
    for after in struck:
        assert after.point is not None
        assert len(after.calls) >= after.point.number


def test_a_scope_passes_every_kind_of_fault_at_each_of_its_calls(shop: Shop, sandbox: Sandbox) -> None:
    tried = every_crash_point(shop.scope, shop.tell_the_truth, sandbox=sandbox, kinds=EVERY_KIND)
    assert {point.kind for point in tried.points} == set(EVERY_KIND)
    assert tried.crashed == 2 * len(tried.calls)
    assert tried.returned > 0
    faults = {f"faults: {kind.name}": sum(point.kind is kind for point in tried.points) for kind in EVERY_KIND}
    record("every crash point", {"calls": len(tried.calls), "points": len(tried.points), "violations": 0, **faults})


def test_two_plain_puts_are_found_and_the_place_is_named(shop: Shop, sandbox: Sandbox) -> None:
    with pytest.raises(AssertionError) as found:
        every_crash_point(shop.plain, shop.agree, sandbox=sandbox)
    (note,) = found.value.__notes__
    assert note.splitlines() == [
        "at crash point 2 of 4: crash after call 1 of 2, after which it died. Its calls:",
        f"    1 PutItem {ONE}   <-- crash after this one",
    ]


def test_a_plain_put_by_another_client_after_the_commit_is_found(shop: Shop, sandbox: Sandbox) -> None:
    def run() -> None:
        with ReliableWriteScope(sandbox.writer()) as scope:
            scope.put_item(ONE, Item={"id": "a"})
            scope.commit()
        shop.client.put_item(TableName=TWO, Item={"id": {"S": "a"}})

    with pytest.raises(AssertionError) as found:
        every_crash_point(run, shop.agree, sandbox=sandbox)
    assert "crash after call" in found.value.__notes__[0]
    assert "PutItem the system table   <-- crash after this one" in found.value.__notes__[0]


def test_an_acknowledgement_before_the_commit_is_found(shop: Shop, sandbox: Sandbox) -> None:
    told: list[str] = []

    def run() -> None:
        told.append("a")
        shop.scope()

    def what_was_told_is_there(_after: Aftermath) -> None:
        assert [item["id"] for item in sandbox.items(ONE)] == told

    with pytest.raises(AssertionError) as found:
        every_crash_point(run, what_was_told_is_there, sandbox=sandbox, setup=told.clear)
    assert "crash point 1 of" in found.value.__notes__[0]


def test_code_that_catches_exceptions_dies_all_the_same(shop: Shop, sandbox: Sandbox) -> None:
    """It would go on, and tell its caller that all is well."""

    def run() -> str:
        for table in (ONE, TWO):
            with contextlib.suppress(Exception):
                shop.client.put_item(TableName=table, Item={"id": {"S": "a"}})
        return "done"

    died: list[bool] = []
    every_crash_point(run, lambda after: died.append(after.crashed), sandbox=sandbox)
    assert died == [False, True, True, True, True]


def test_what_a_bare_except_and_a_finally_send_reaches_no_table(shop: Shop, sandbox: Sandbox) -> None:
    def run() -> str:
        try:
            with contextlib.suppress(BaseException):
                shop.client.put_item(TableName=ONE, Item={"id": {"S": "a"}})
        finally:
            with contextlib.suppress(BaseException):
                shop.client.put_item(TableName=TWO, Item={"id": {"S": "a"}})
        return "done"

    ends: list[tuple[bool, Any, int]] = []
    every_crash_point(
        run,
        lambda after: ends.append((after.crashed, after.returned, len(sandbox.items(TWO)))),
        sandbox=sandbox,
        kinds=[CRASH_BEFORE],
    )
    assert ends == [(False, "done", 1), (True, None, 0), (True, None, 0)]


def test_other_faults_are_told_by_what_the_function_raised(shop: Shop, sandbox: Sandbox) -> None:
    raised: list[Exception | None] = []
    denied = Kind("denied", "before", lambda _: deny)
    tried = every_crash_point(shop.plain, lambda after: raised.append(after.raised), sandbox=sandbox, kinds=[denied])
    assert [error is None for error in raised] == [True, False, False]
    assert (tried.crashed, tried.returned, tried.raised) == (0, 0, 2)


def test_a_stalled_process_meets_the_monitor_that_took_over(shop: Shop, sandbox: Sandbox) -> None:
    before = sandbox.time.elapsed_seconds()
    tried = every_crash_point(shop.scope, shop.tell_the_truth, sandbox=sandbox, kinds=[STALL])
    assert tried.raised + tried.returned == len(tried.points) == len(tried.calls)
    assert tried.raised > 0, "some were past their deadline when they woke"
    assert sandbox.time.elapsed_seconds() - before > 2 * 40 * len(tried.points)


def test_threads_and_clients_of_a_dead_process_send_nothing_in_a_later_run(sandbox: Sandbox, dynoxide: Engine) -> None:
    """Each run makes a client and keeps it; nobody hears of it again."""
    kept: list[Any] = []

    def run() -> None:
        for old in kept:
            with pytest.raises(Exception, match="process is over"):
                old.put_item(TableName=TWO, Item={"id": {"S": "a"}})
        kept.append(dynoxide.client())
        kept[-1].put_item(TableName=ONE, Item={"id": {"S": "a"}})

    every_crash_point(run, lambda _: None, sandbox=sandbox)
    assert len(kept) == 3
    assert sandbox.items(TWO) == []


# --- what it refuses ----------------------------------------------------------------------------------------------


def test_a_run_without_calls_is_refused(sandbox: Sandbox) -> None:
    with pytest.raises(CrashPointsError, match="no request that could be seen"):
        every_crash_point(lambda: None, lambda _: None, sandbox=sandbox)


def test_kinds_that_strike_nothing_are_refused(shop: Shop, sandbox: Sandbox) -> None:
    never = Kind("never", "before", lambda _: deny, frozenset({"Query"}))
    with pytest.raises(CrashPointsError, match="none of the kinds strikes any of the 2 calls"):
        every_crash_point(shop.plain, lambda _: None, sandbox=sandbox, kinds=[never])


def test_a_run_that_fails_by_itself_is_told_as_such(sandbox: Sandbox) -> None:
    def run() -> None:
        raise KeyError("mine")

    with pytest.raises(KeyError, match="mine") as failed:
        every_crash_point(run, lambda _: None, sandbox=sandbox)
    assert "without a fault" in failed.value.__notes__[0]


def test_a_check_that_fails_without_a_fault_is_told_as_such(shop: Shop, sandbox: Sandbox) -> None:
    def check(_after: Aftermath) -> None:
        pytest.fail("never true")

    with pytest.raises(pytest.fail.Exception, match="never true") as failed:
        every_crash_point(shop.plain, check, sandbox=sandbox)
    assert "without a fault" in failed.value.__notes__[0]


def test_tables_that_are_not_emptied_are_refused(
    shop: Shop, sandbox: Sandbox, unique_name: Callable[[str], str]
) -> None:
    foreign = unique_name("foreign")
    definition = {"TableName": foreign, "BillingMode": "PAY_PER_REQUEST"}
    definition["KeySchema"] = [{"AttributeName": "id", "KeyType": "HASH"}]  # type: ignore[assignment]
    definition["AttributeDefinitions"] = [{"AttributeName": "id", "AttributeType": "S"}]  # type: ignore[assignment]
    shop.client.create_table(**definition)

    def run() -> None:
        shop.client.put_item(TableName=foreign, Item={"id": {"S": "a"}})

    with pytest.raises(CrashPointsError, match=foreign):
        every_crash_point(run, lambda _: None, sandbox=sandbox)


def test_a_run_that_ends_before_its_point_is_refused(shop: Shop, sandbox: Sandbox) -> None:
    """A writer that is kept over runs has read what the first run had to read."""
    kept = ReliableWriter(sandbox.settings(), client=shop.client)
    with pytest.raises(CrashPointsError, match="another course") as refused:
        every_crash_point(lambda: shop.write(kept), lambda _: None, sandbox=sandbox, kinds=[THROTTLE])
    kept.close()
    assert "throttling of call" in refused.value.__notes__[0]


def test_a_run_that_does_something_else_is_refused(shop: Shop, sandbox: Sandbox) -> None:
    runs = itertools.count()

    def run() -> None:
        table = ONE if next(runs) == 0 else TWO
        shop.client.put_item(TableName=table, Item={"id": {"S": "a"}})

    with pytest.raises(CrashPointsError, match="a call that is new"):
        every_crash_point(run, lambda _: None, sandbox=sandbox)


def test_what_the_monitor_cannot_finish_fails(shop: Shop, sandbox: Sandbox) -> None:
    """Somebody else's value stands in a stamp attribute: what is left waits for an operator."""
    runs = itertools.count()

    def run() -> None:
        shop.scope()

    def setup() -> None:
        if next(runs):
            poison(sandbox)

    with pytest.raises(CrashPointsError, match="could not finish what the run left") as refused:
        every_crash_point(run, shop.agree, sandbox=sandbox, setup=setup, kinds=[CRASH_AFTER])
    assert "quarantined" in str(refused.value)


def poison(sandbox: Sandbox) -> None:
    """A write that died at its commit point, and then an item at its key that no rule of ours can judge."""
    writer = sandbox.writer()
    scope = ReliableWriteScope(writer)
    scope.put_item(ONE, Item={"id": "poisoned"})
    with FaultPlan(writer.client).on("PutItem", crash, "after", times=1), pytest.raises(SimulatedCrash):
        scope.commit()
    sandbox.client.put_item(TableName=ONE, Item={"id": {"S": "poisoned"}, "_rw": {"N": "1"}})


# --- the sandbox --------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("endpoint", ["https://dynamodb.eu-west-1.amazonaws.com", "https://dynamodb.us-east-1.api.aws"])
def test_a_sandbox_is_never_made_at_aws(endpoint: str) -> None:
    with pytest.raises(ConfigurationError, match="not for AWS"):
        Sandbox(endpoint)


def test_a_sandbox_takes_no_table_that_is_there(sandbox: Sandbox) -> None:
    sandbox.client.put_item(TableName=ONE, Item={"id": {"S": "somebody's"}})
    with pytest.raises(ConfigurationError, match="already"):
        Sandbox(sandbox.endpoint_url, {ONE: "id"})
    assert sandbox.items(ONE) == [{"id": "somebody's"}]


def test_a_closed_sandbox_leaves_no_table(dynoxide: Engine, client: Any) -> None:
    before = _all_tables(client)
    with Sandbox(dynoxide.endpoint_url, {"kit-three": "id"}) as sandbox:
        assert _all_tables(client) - before == sandbox.tables
    assert _all_tables(client) == before


def _all_tables(client: Any) -> set[str]:
    """Other tests have left more than one page of them."""
    return {name for page in client.get_paginator("list_tables").paginate() for name in page["TableNames"]}


def test_an_emptied_sandbox_forgets_writes_and_items(shop: Shop, sandbox: Sandbox) -> None:
    shop.scope()
    poison(sandbox)
    (left,) = sandbox.left()
    assert (left.state, left.tables) == ("pending", (ONE,))
    sandbox.empty()
    assert sandbox.left() == []
    assert sandbox.items(ONE) == sandbox.items(TWO) == []
    shop.scope()
    assert sandbox.item(ONE, id="a") == {"id": "a"}
    assert sandbox.item(ONE, id="b") is None


def test_deaths_of_background_threads_are_no_news_but_other_errors_are(shop: Shop, sandbox: Sandbox) -> None:
    """A thread of the service that sends while the process dies, and one that has a bug of its own."""
    heard: list[type[BaseException] | None] = []
    hook = threading.excepthook
    threading.excepthook = lambda args: heard.append(args.exc_type)
    try:

        def run() -> None:
            for work in (shop.plain, broken):
                thread = threading.Thread(target=work)
                thread.start()
                thread.join()

        def broken() -> None:
            raise ZeroDivisionError

        every_crash_point(run, lambda _: None, sandbox=sandbox, kinds=[CRASH_BEFORE])
    finally:
        threading.excepthook = hook
    assert heard == [ZeroDivisionError] * 3
