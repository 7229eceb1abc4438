"""What PynamoDB, dyntastic and pydynox do with stamps, floats and bytes, as docs/interop.md tells of each.

With other versions of them these tests say what is to be told anew.
"""

from __future__ import annotations

from decimal import Decimal
from typing import Any

import boto3
import pytest
from boto3.dynamodb.types import TypeDeserializer
from pydantic import BaseModel, ConfigDict, ValidationError
from pydynox import dynamodb_model, pydynox_core
from pydynox.hooks import before_save

from reliable_write import InvalidItemError, ReliableWriter, ReliableWriteScope
from tests.integration.peers import BYTES, DYNTASTICS_BINARY, DyntasticPeer, PydynoxPeer, PynamoPeer, python_values
from tests.integration.peers.stage import another, as_dyntastic_has_it, assert_equal, peer_in, stamps, with_dyntastic
from tests.integration.peers.with_dyntastic import A, serialize
from tests.world import World

__all__ = ["as_dyntastic_has_it"]


def written(world: World, table: str, key: str, **more: Any) -> None:
    with another(world).begin() as scope:
        scope.put_item(table, Item={"id": key, "text": "t", **more})


def test_pynamodbs_save_drops_the_stamp_and_its_update_leaves_it(world: World) -> None:
    peer = peer_in(world, PynamoPeer)
    for key in "xy":
        written(world, peer.two, key)
    peer.load(peer.small("x", "")).save()
    peer.load(peer.small("y", "")).update(actions=[peer.models["small"].text.set("u")])
    assert (stamps(world, peer.two, "x"), stamps(world, peer.two, "y")) == (set(), {"_rw"})


@with_dyntastic
@pytest.mark.parametrize(
    ("extra", "incomplete", "after_save"),
    [("ignore", False, set()), ("allow", False, {"_rw", "_rwu"}), ("forbid", True, set())],
)
def test_dyntastic_loads_a_stamp_and_its_save_does_as_the_models_extras_say(
    world: World, extra: Any, incomplete: bool, after_save: set[str]
) -> None:
    """`forbid` loads it all the same, unvalidated, as it loads an item of an index that holds only some attributes."""
    peer = peer_in(world, DyntasticPeer)

    class Small(peer.models["small"]):  # type: ignore[misc,name-defined]  # made for each world
        model_config = ConfigDict(extra=extra)

    written(world, peer.two, "x")
    with another(world).begin() as scope:
        scope.update_item(peer.two, Key={"id": "x"}, set={"text": "t"})
    stamp = world.item(peer.two, id={"S": "x"}) or {}
    loaded = Small.get("x", consistent_read=True)
    assert loaded._dyntastic_missing_attributes_from_index is incomplete
    assert (loaded.id, loaded.text) == ("x", "t")
    loaded.save()
    assert stamps(world, peer.two, "x") == after_save
    if after_save:
        assert (world.item(peer.two, id={"S": "x"}) or {})["_rw"] == stamp["_rw"], "the old one, of another write"
    with another(world).begin() as scope:
        peer.put(scope, loaded)
    assert stamps(world, peer.two, "x") == {"_rw"}
    assert (world.item(peer.two, id={"S": "x"}) or {})["_rw"] != stamp["_rw"], "a scope puts its own in its place"
    text: Any = A.text
    loaded.update(text.set("u"))
    assert stamps(world, peer.two, "x") == {"_rw"}


def test_pydynox_keeps_the_stamp_when_it_saves_what_changed_and_drops_it_when_it_replaces(world: World) -> None:
    peer = peer_in(world, PydynoxPeer)
    written(world, peer.two, "x")
    loaded = peer.load(peer.small("x", ""))
    loaded.text = "u"
    loaded.sync_save()
    assert stamps(world, peer.two, "x") == {"_rw"}
    loaded.sync_update(text="v")
    assert stamps(world, peer.two, "x") == {"_rw"}
    loaded.sync_save(full_replace=True)
    assert stamps(world, peer.two, "x") == set()


@pytest.mark.parametrize(("extra", "after_save"), [("ignore", set()), ("allow", {"_rw"})])
def test_pydynox_over_a_pydantic_model_does_as_its_extras_say(world: World, extra: Any, after_save: set[str]) -> None:
    peer = peer_in(world, PydynoxPeer)
    written(world, peer.two, "x")
    loaded = over_pydantic(peer, extra).sync_get(id="x")
    loaded.sync_update(text="u")
    assert stamps(world, peer.two, "x") == {"_rw"}
    loaded.sync_save()
    assert stamps(world, peer.two, "x") == after_save


def test_pydynox_over_a_pydantic_model_that_forbids_extras_cannot_load_a_stamped_item(world: World) -> None:
    peer = peer_in(world, PydynoxPeer)
    written(world, peer.two, "x")
    with pytest.raises(ValidationError, match="_rw"):
        over_pydantic(peer, "forbid").sync_get(id="x")


def over_pydantic(peer: Any, extra: Any) -> Any:
    class Small(BaseModel):
        model_config = ConfigDict(extra=extra)
        id: str
        text: str

    return dynamodb_model(table=peer.two, partition_key="id", client=peer.client)(Small)


# --- what to know of each library -------------------------------------------------------------------------------------


@with_dyntastic
def test_floats_of_pynamodb_keep_their_digits_and_those_of_the_others_are_refused(world: World) -> None:
    pynamo, dyn, ox = (peer_in(world, kind) for kind in (PynamoPeer, DyntasticPeer, PydynoxPeer))
    full = pynamo.full("a")
    for number in (0.1, 1 / 3, 1e22, -2.5e-8, 5e-130):
        full.fraction = number
        with another(world).begin() as scope:
            pynamo.put(scope, full)
        assert pynamo.load(full).fraction == number
    full.fraction = Decimal("0.1")
    with pytest.raises(TypeError, match="Decimal"):
        pynamo.put(ReliableWriteScope(world.writer()), full)
    full.fraction = float("nan")
    refused = {}
    for peer, instance in ((pynamo, full), (dyn, dyn.full("b")), (ox, ox.full("c"))):
        if peer is not pynamo:
            instance.anything = {"deep": [0.1]}
        with pytest.raises(InvalidItemError) as caught:
            peer.put(ReliableWriteScope(world.writer()), instance)
        refused[peer.name] = caught.value.path
    assert refused == {"pynamodb": "fraction", "dyntastic": "anything.deep[0]", "pydynox": "anything.deep[0]"}


def test_pynamodbs_json_form_is_not_for_scopes(monkeypatch: pytest.MonkeyPatch, world: World) -> None:
    """`to_dynamodb_dict()` holds binary values as base64: boto3 refuses it, and under dyntastic takes it for text."""
    full = peer_in(world, PynamoPeer).full("a").to_dynamodb_dict()
    with pytest.raises(TypeError, match="bytes"):
        python_values(full)
    monkeypatch.setattr(TypeDeserializer, "_deserialize_b", DYNTASTICS_BINARY)
    assert python_values(full)["blob"] == "AP8Q"


def test_pydynox_keeps_sets_as_lists_and_reads_real_ones_too(world: World) -> None:
    peer = peer_in(world, PydynoxPeer)
    full = peer.full("a")
    assert sorted(full.to_dict()["texts"]) == ["a", "b"]
    with another(world).begin() as scope:
        scope.put_item(peer.one, Item={**full.to_dict(), "texts": full.texts, "numbers": {1, Decimal("2.5")}})
    stored = world.item(peer.one, id={"S": "a"}) or {}
    assert stored["texts"] == {"SS": ["a", "b"]}
    assert_equal(peer, peer.load(full), full)


def test_pydynox_reads_fractions_in_lists_and_maps_as_floats(world: World) -> None:
    peer = peer_in(world, PydynoxPeer)
    full = peer.full("a")
    full.parts, full.anything = [Decimal("0.1"), 2], {"deep": [Decimal("0.1")]}
    with another(world).begin() as scope:
        peer.put(scope, full)
    loaded = peer.load(full)
    assert (loaded.parts, loaded.anything) == ([0.1, 2], {"deep": [0.1]})
    with pytest.raises(InvalidItemError) as refused:
        peer.put(ReliableWriteScope(world.writer()), loaded)
    assert refused.value.path == "parts[0]"


def test_pydynox_fills_in_generated_values_and_runs_hooks_only_when_it_saves_by_itself(world: World) -> None:
    peer = peer_in(world, PydynoxPeer)
    hooked = []

    class Small(peer.models["small"]):  # type: ignore[misc,name-defined]  # made for each world
        @before_save
        def note(self) -> None:
            hooked.append(self.id)

    small = Small(id="b", text="t")
    assert "made" not in small.to_dict()
    assert hooked == []
    small.sync_save()
    assert small.to_dict()["made"]
    assert hooked == ["b"]


def test_pydynoxs_wire_form_holds_base64_and_its_equality_looks_at_the_key(world: World) -> None:
    assert pydynox_core.item_to_dynamo({"blob": BYTES}) == {"blob": {"B": "AP8Q"}}
    peer = peer_in(world, PydynoxPeer)
    assert peer.small("b", "one") == peer.small("b", "another")


@with_dyntastic
def test_dyntastic_leaves_out_what_is_none_and_its_empty_sets_are_refused(world: World) -> None:
    peer = peer_in(world, DyntasticPeer)
    full = peer.full("a")
    full.texts = set()
    with pytest.raises(InvalidItemError, match="texts is an empty set"):
        peer.put(ReliableWriteScope(world.writer()), full)
    assert "version" not in serialize(peer.small("b", "t").model_dump(by_alias=True))


@with_dyntastic
def test_dyntastics_change_of_boto3_does_not_reach_what_a_scope_writes(every_world: World) -> None:
    """A writer on a resource hands boto3 Python values, read by the very function that dyntastic replaces."""
    table = every_world.table("three")
    resource = boto3.resource("dynamodb", region_name="us-east-1", endpoint_url=every_world.engine.endpoint_url)
    writer = ReliableWriter(every_world.settings(delete_finished_inline=True), client=resource)
    with writer, writer.begin() as scope:
        scope.put_item(table, Item={"id": "a", "blob": BYTES, "blobs": {BYTES, b"z"}})
    stored = every_world.item(table, id={"S": "a"}) or {}
    assert stored["blob"] == {"B": BYTES}
    assert sorted(stored["blobs"]["BS"]) == [BYTES, b"z"]
    resource.meta.client.close()
