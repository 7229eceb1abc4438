"""Models of PynamoDB, dyntastic and pydynox through scopes and back, as docs/interop.md says."""

from __future__ import annotations

from typing import Any

import pytest

from reliable_write import ConditionFailedError, Outcome, ReliableWriteScope
from reliable_write.recovery import Resumed
from reliable_write.testing.engines import Capability
from reliable_write.testing.faults import FaultPlan, SimulatedCrash, crash
from tests.integration.peers import PEERS, DyntasticPeer, Peer, PynamoPeer, python_values, taken
from tests.integration.peers.stage import another, as_dyntastic_has_it, assert_equal, peer_in, stamps
from tests.world import World

__all__ = ["as_dyntastic_has_it"]

needs_transactions = pytest.mark.needs(Capability.TRANSACTIONS)


@pytest.fixture(params=sorted(PEERS))
def peer(request: pytest.FixtureRequest, every_world: World) -> Peer:
    kind = PEERS[request.param]
    if kind is DyntasticPeer:
        request.getfixturevalue("as_dyntastic_has_it")
    peer: Peer = peer_in(every_world, kind)
    return peer


# --- there and back ---------------------------------------------------------------------------------------------------


def test_every_attribute_type_comes_back_equal_through_its_own_library(every_world: World, peer: Peer) -> None:
    full, small, gone = peer.full("a"), peer.small("b", "new"), peer.small("old", "to go")
    peer.save(gone)
    with another(every_world).begin() as scope:
        peer.put(scope, full)
        peer.put(scope, small)
        peer.delete(scope, gone)
    assert_equal(peer, peer.load(full), full)
    loaded = peer.load(small)
    assert (loaded.id, loaded.text) == ("b", "new")
    assert peer.load(gone) is None
    assert stamps(every_world, peer.one, "a") == stamps(every_world, peer.two, "b") == {"_rw"}


def test_a_scope_stores_what_the_librarys_own_save_stores(every_world: World, peer: Peer) -> None:
    peer.save(peer.full("by-itself"))
    with another(every_world).begin() as scope:
        peer.put(scope, peer.full("by-scope"))
    stored = {item["id"]["S"]: python_values(item) for item in every_world.items(peer.one)}
    assert len(stored["by-scope"].pop("_rw")) == 36
    assert stored["by-scope"] == {**stored["by-itself"], "id": "by-scope"}


def test_what_was_loaded_goes_through_a_scope_again(every_world: World, peer: Peer) -> None:
    """Read, change, write: the item read carries a stamp, which is not the next write's."""
    full = peer.full("a")
    with another(every_world).begin() as scope:
        peer.put(scope, full)
    loaded = peer.load(full)
    loaded.text = full.text = "changed"
    with another(every_world).begin() as scope:
        peer.put(scope, loaded)
    assert_equal(peer, peer.load(full), full)


# --- a crash after the commit point -----------------------------------------------------------------------------------


def crashed(scope: ReliableWriteScope, plan: FaultPlan) -> None:
    with pytest.raises(SimulatedCrash):
        scope.commit()
    assert plan.injected


def left_pending(world: World, peer: Peer, *instances: Any, deleted: Any = None) -> None:
    """Committed and put nowhere: the writer died at its first put."""
    writer = world.writer()
    scope = ReliableWriteScope(writer)
    for instance in instances:
        peer.put(scope, instance)
    if deleted is not None:
        peer.delete(scope, deleted)
    plan = FaultPlan(writer.client)
    for table in (peer.one, peer.two):
        plan.on("PutItem", crash, having=f'"{table}"'.encode())
        plan.on("DeleteItem", crash, having=f'"{table}"'.encode())
    crashed(scope, plan)
    assert len(world.records("J#")) == 1


def recover(world: World) -> None:
    assert [report.resumed for report in world.writer().recovery.resume_all()] == [Resumed.FINISHED]


def test_what_a_crash_left_is_finished_and_loads_equal(every_world: World, peer: Peer) -> None:
    full, small, gone = peer.full("a"), peer.small("b", "new"), peer.small("old", "to go")
    peer.save(gone)
    left_pending(every_world, peer, full, small, deleted=gone)
    assert peer.load(full) is None
    assert peer.load(small) is None
    assert peer.load(gone) is not None
    recover(every_world)
    assert_equal(peer, peer.load(full), full)
    assert peer.load(small).text == "new"
    assert peer.load(gone) is None


@needs_transactions
def test_a_checked_version_and_the_rest_survive_a_crash_after_the_commit_point(every_world: World, peer: Peer) -> None:
    full, small = peer.full("a"), peer.small("b", "first")
    writer = every_world.writer()
    scope = ReliableWriteScope(writer)
    peer.put(scope, full)
    peer.put(scope, small, checked=True)
    crashed(scope, FaultPlan(writer.client).on("TransactWriteItems", crash, when="after"))
    assert peer.load(full) is None
    recover(every_world)
    assert_equal(peer, peer.load(full), full)
    assert (peer.load(small).text, peer.load(small).version) == ("first", 1)


# --- versions ---------------------------------------------------------------------------------------------------------


@needs_transactions
def test_a_stale_version_is_refused_and_nothing_is_written(every_world: World, peer: Peer) -> None:
    writer = another(every_world)
    with writer.begin() as scope:
        peer.put(scope, peer.small("b", "first"), checked=True)
    mine, stale = peer.load(peer.small("b", "")), peer.load(peer.small("b", ""))
    mine.text, stale.text = "mine", "stale"
    with writer.begin() as scope:
        peer.put(scope, mine, checked=True)
    scope = ReliableWriteScope(writer)
    peer.put(scope, peer.full("a"))
    peer.put(scope, stale, checked=True)
    with pytest.raises(ConditionFailedError) as refused:
        scope.commit()
    assert refused.value.outcome is Outcome.NOT_WRITTEN
    assert (refused.value.failures[0].item or {})["version"] == 2
    assert peer.load(peer.full("a")) is None
    assert (peer.load(mine).text, peer.load(mine).version) == ("mine", 2)


@needs_transactions
def test_a_new_version_is_refused_where_the_item_is_there_already(every_world: World, peer: Peer) -> None:
    writer = another(every_world)
    with writer.begin() as scope:
        peer.put(scope, peer.small("b", "first"), checked=True)
    with pytest.raises(ConditionFailedError), writer.begin() as scope:
        peer.put(scope, peer.small("b", "second"), checked=True)
    assert peer.load(peer.small("b", "")).text == "first"


@needs_transactions
def test_pynamodbs_prepared_updates_and_deletes_carry_their_version(every_world: World) -> None:
    peer = peer_in(every_world, PynamoPeer)
    writer = another(every_world)
    small = peer.small("b", "first")
    with writer.begin() as scope:
        peer.put(scope, small, checked=True)
    assert taken(small.get_save_kwargs_from_instance())["Item"]["version"] == 1
    assert small.version is None, "the instance learns of it when the outcome is known"
    small.update_local_version_attribute()
    prepared = small.get_update_kwargs_from_instance(actions=[type(small).text.set("second")])
    with writer.begin() as scope:
        scope.update_item(peer.two, **taken(prepared))
    assert (peer.load(small).text, peer.load(small).version) == ("second", 2)
    assert stamps(every_world, peer.two, "b") == {"_rw", "_rwu"}
    with pytest.raises(ConditionFailedError), writer.begin() as scope:
        scope.delete_item(peer.two, **taken(small.get_delete_kwargs_from_instance()))
    with writer.begin() as scope:
        scope.delete_item(peer.two, **taken(peer.load(small).get_delete_kwargs_from_instance()))
    assert peer.load(small) is None


# --- written past the scopes ------------------------------------------------------------------------------------------


def test_what_a_library_saves_by_itself_is_lost_to_an_older_write_that_is_finished_late(
    every_world: World, peer: Peer
) -> None:
    """Not promised, and said so; with a scope in its place the newer write holds."""
    left_pending(every_world, peer, peer.small("b", "older"))
    peer.save(peer.small("b", "newer"))
    recover(every_world)
    assert peer.load(peer.small("b", "")).text == "older"

    left_pending(every_world, peer, peer.small("c", "older"))
    with another(every_world).begin() as scope:
        peer.put(scope, peer.small("c", "newer"))
    every_world.writer().recovery.resume_all()
    assert peer.load(peer.small("c", "")).text == "newer"


def test_what_a_library_deletes_by_itself_comes_back_with_an_older_write(every_world: World, peer: Peer) -> None:
    small = peer.small("b", "older")
    left_pending(every_world, peer, small)
    peer.save(peer.small("b", "newer"))
    peer.erase(peer.small("b", ""))
    assert peer.load(small) is None
    recover(every_world)
    assert peer.load(small).text == "older"


@needs_transactions
def test_beside_puts_with_a_checked_version_a_librarys_own_save_holds(every_world: World, peer: Peer) -> None:
    """Such a put is part of the commit point: nothing of it is finished late."""
    small = peer.small("b", "older")
    writer = every_world.writer()
    scope = ReliableWriteScope(writer)
    peer.put(scope, peer.full("a"))
    peer.put(scope, small, checked=True)
    crashed(scope, FaultPlan(writer.client).on("TransactWriteItems", crash, when="after"))
    loaded = peer.load(small)
    loaded.text = "newer"
    peer.save(loaded)
    recover(every_world)
    assert peer.load(small).text == "newer"
