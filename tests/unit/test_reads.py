"""Where a consistent-read scope holds: blocks, functions, tasks, threads, generators. What is sent: see integration."""

from __future__ import annotations

import asyncio
import contextvars
import threading
from collections.abc import AsyncGenerator, AsyncIterator, Callable, Iterator
from concurrent.futures import ThreadPoolExecutor
from typing import Any

import pytest

from reliable_write import ConfigurationError, ConsistentReadScope, Settings
from reliable_write.reads import consistent_here

PATIENCE_SECONDS = 10.0


def here() -> tuple[bool, bool]:
    """What holds where nothing is set, and where consistency is."""
    return consistent_here(), consistent_here(True)


OUTSIDE, CONSISTENT, EVENTUAL = (False, True), (True, True), (False, False)


@pytest.fixture(autouse=True)
def nothing_is_left_behind() -> Iterator[None]:
    assert here() == OUTSIDE
    yield
    assert here() == OUTSIDE


# --- blocks -------------------------------------------------------------------------------------------------------


def test_outside_of_scopes_the_default_holds() -> None:
    assert here() == OUTSIDE


def test_inside_a_scope_the_scope_decides() -> None:
    with ConsistentReadScope():
        assert here() == CONSISTENT
    assert here() == OUTSIDE
    with ConsistentReadScope(False):
        assert here() == EVENTUAL


def test_scopes_nest_and_the_innermost_decides() -> None:
    with ConsistentReadScope():
        with ConsistentReadScope(False):
            assert here() == EVENTUAL
            with ConsistentReadScope():
                assert here() == CONSISTENT
            assert here() == EVENTUAL
        assert here() == CONSISTENT


def test_a_scope_ends_with_its_block_when_it_raises() -> None:
    with pytest.raises(ZeroDivisionError), ConsistentReadScope():
        _ = 1 / 0
    assert here() == OUTSIDE


def test_one_instance_may_be_entered_again_inside_itself() -> None:
    scope = ConsistentReadScope()
    with scope:
        with ConsistentReadScope(False):
            with scope:
                assert here() == CONSISTENT
            assert here() == EVENTUAL
        assert here() == CONSISTENT
    with scope:
        assert here() == CONSISTENT
    assert here() == OUTSIDE


def test_the_setting_holds_where_no_scope_says_otherwise() -> None:
    settings = Settings(consistent_reads=True)
    assert consistent_here(settings.consistent_reads)
    assert not consistent_here(Settings().consistent_reads)
    with ConsistentReadScope(False):
        assert not consistent_here(settings.consistent_reads)


@pytest.mark.parametrize("wrong", [len, object(), None, 1])
def test_what_is_neither_true_nor_false_is_refused(wrong: Any) -> None:
    with pytest.raises(TypeError, match=r"@ConsistentReadScope\(\), and a client .* ConsistentReadScope.install"):
        ConsistentReadScope(wrong)


# --- functions ----------------------------------------------------------------------------------------------------


def test_a_decorated_function_runs_in_the_scope() -> None:
    @ConsistentReadScope()
    def read(left: int, *, right: int) -> tuple[int, tuple[bool, bool]]:
        """Adds."""
        return left + right, here()

    assert read(1, right=2) == (3, CONSISTENT)
    assert (read.__name__, read.__doc__) == ("read", "Adds.")
    assert here() == OUTSIDE


def test_a_decorated_function_may_call_itself() -> None:
    @ConsistentReadScope()
    def down(depth: int) -> list[tuple[bool, bool]]:
        seen = down(depth - 1) if depth else []
        return [*seen, here()]

    assert down(3) == [CONSISTENT] * 4
    assert here() == OUTSIDE


def test_a_decorated_coroutine_function_runs_in_the_scope_to_its_end() -> None:
    @ConsistentReadScope()
    async def read() -> list[tuple[bool, bool]]:
        before = here()
        await asyncio.sleep(0)
        return [before, here()]

    async def main() -> None:
        coroutine = read()
        assert here() == OUTSIDE
        assert await coroutine == [CONSISTENT, CONSISTENT]
        assert here() == OUTSIDE

    asyncio.run(main())


def steps() -> Iterator[int]:
    yield 1


async def asynchronous_steps() -> AsyncIterator[int]:
    yield 1


@pytest.mark.parametrize("function", [steps, asynchronous_steps])
def test_a_generator_is_not_decorated_as_its_consumer_would_be_in_the_scope(function: Callable[[], Any]) -> None:
    with pytest.raises(TypeError, match=r"steps is a generator: .* Use `with ConsistentReadScope\(\):` inside"):
        ConsistentReadScope()(function)


# --- tasks --------------------------------------------------------------------------------------------------------


def test_tasks_made_in_the_block_are_in_it_also_after_its_end() -> None:
    async def read(gate: asyncio.Event) -> tuple[bool, bool]:
        await asyncio.wait_for(gate.wait(), PATIENCE_SECONDS)
        return here()

    async def main() -> None:
        gate = asyncio.Event()
        async with ConsistentReadScope():
            assert here() == CONSISTENT
            inside = asyncio.create_task(read(gate))
        assert here() == OUTSIDE
        outside = asyncio.create_task(read(gate))
        gate.set()
        assert (await inside, await outside) == (CONSISTENT, OUTSIDE)

    asyncio.run(main())


def test_a_task_that_enters_a_scope_does_not_put_its_siblings_into_it() -> None:
    async def main() -> None:
        entered, looked = asyncio.Event(), asyncio.Event()

        async def inside() -> None:
            async with ConsistentReadScope():
                entered.set()
                await asyncio.wait_for(looked.wait(), PATIENCE_SECONDS)

        task = asyncio.create_task(inside())
        await asyncio.wait_for(entered.wait(), PATIENCE_SECONDS)
        assert here() == OUTSIDE
        looked.set()
        await task

    asyncio.run(main())


def test_one_instance_may_be_entered_by_several_tasks_at_once() -> None:
    scope = ConsistentReadScope()

    async def visit(mine: asyncio.Event, theirs: asyncio.Event) -> list[tuple[bool, bool]]:
        async with scope:
            mine.set()
            await asyncio.wait_for(theirs.wait(), PATIENCE_SECONDS)
            inside = here()
        return [inside, here()]

    async def main() -> None:
        one, other = asyncio.Event(), asyncio.Event()
        visits = await asyncio.gather(visit(one, other), visit(other, one))
        assert list(visits) == [[CONSISTENT, OUTSIDE]] * 2

    asyncio.run(main())


# --- threads ------------------------------------------------------------------------------------------------------


def test_a_thread_is_in_the_scope_only_if_it_is_given_the_context() -> None:
    with ThreadPoolExecutor(1) as executor, ConsistentReadScope():
        assert executor.submit(contextvars.copy_context().run, here).result() == CONSISTENT
        assert executor.submit(contextvars.Context().run, here).result() == OUTSIDE


def test_a_thread_by_asyncio_is_in_the_scope() -> None:
    async def main() -> tuple[bool, bool]:
        with ConsistentReadScope():
            return await asyncio.to_thread(here)

    assert asyncio.run(main()) == CONSISTENT


def test_one_instance_may_be_entered_by_several_threads_at_once() -> None:
    scope, both_inside, one_left = ConsistentReadScope(), threading.Barrier(2), threading.Event()

    def visit(*, leaves_first: bool) -> list[tuple[bool, bool]]:
        with scope:
            both_inside.wait(PATIENCE_SECONDS)
            if not leaves_first:
                assert one_left.wait(PATIENCE_SECONDS)
            inside = here()
        one_left.set()
        return [inside, here()]

    with ThreadPoolExecutor(2) as executor:
        visits = [executor.submit(visit, leaves_first=first) for first in (True, False)]
        assert [visited.result() for visited in visits] == [[CONSISTENT, OUTSIDE]] * 2


# --- generators ---------------------------------------------------------------------------------------------------


def scoped(consistent: bool) -> Iterator[tuple[bool, bool]]:
    with ConsistentReadScope(consistent):
        yield here()
    yield here()


def test_a_generator_that_ends_takes_its_own_scope_away_and_no_other() -> None:
    first, second = scoped(True), scoped(False)
    assert (next(first), next(second)) == (CONSISTENT, EVENTUAL)
    assert next(first) == EVENTUAL, "the second one's scope went with the first one's"
    assert next(second) == OUTSIDE, "the first one's scope came back"


def test_leaving_in_another_context_does_not_raise() -> None:
    scope = ConsistentReadScope()
    contextvars.copy_context().run(scope.__enter__)
    with ConsistentReadScope(False):
        scope.__exit__(None, None, None)
        assert here() == EVENTUAL


def test_an_asynchronous_generator_may_be_closed_by_another_task() -> None:
    closed: list[str] = []

    async def pages() -> AsyncGenerator[tuple[bool, bool], None]:
        async with ConsistentReadScope():
            try:
                yield here()
            finally:
                closed.append("closed")

    async def main() -> None:
        stream = pages()

        async def first() -> tuple[bool, bool]:
            return await anext(stream)

        assert await asyncio.create_task(first()) == CONSISTENT
        await asyncio.create_task(stream.aclose())
        assert here() == OUTSIDE

    asyncio.run(main())
    assert closed == ["closed"]


# --- installing ---------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("wrong", [None, "a-table", object()])
def test_what_is_no_client_is_refused(wrong: Any) -> None:
    with pytest.raises(ConfigurationError, match="A boto3 DynamoDB client is needed"):
        ConsistentReadScope.install(wrong)


def test_an_unknown_choice_for_indexes_is_refused() -> None:
    with pytest.raises(ConfigurationError, match="on_index is one of skip, refuse, not 'ignore'"):
        ConsistentReadScope.install(None, on_index="ignore")  # type: ignore[arg-type]
