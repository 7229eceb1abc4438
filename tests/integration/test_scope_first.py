from reliable_write import ReliableWriteScope
from tests.world import World


def test_a_scope_writes_all_its_items_and_leaves_no_entry(every_world: World) -> None:
    world = every_world
    people, places = world.table("people"), world.table("places", "id:S", "at:N")
    writer = world.writer()
    with ReliableWriteScope(writer) as scope:
        scope.put_item(people, Item={"id": "ada", "age": 36})
        scope.put_items(places, [{"id": "london", "at": 1}, {"id": "london", "at": 2}])
        receipt = scope.commit()
    writer.close()
    assert receipt.operations == 2
    assert world.item(people, id={"S": "ada"}) == {"id": {"S": "ada"}, "age": {"N": "36"}, "_rw": {"S": receipt.stamp}}
    assert len(world.items(places)) == 2
    assert world.records("J#") == []
