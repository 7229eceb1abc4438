"""Tables in memory, behind the engine's own `Calls` protocol: every request is one atomic step, pages are small.

It answers as the conformance suite wants it, see `tests.conformance.in_memory` for what it leaves out; it knows the
expressions that the library sends and refuses all others. A request may be caught on its way out and land later, or
never: that is how a test says "still in flight".
"""

from __future__ import annotations

import copy
import functools
import operator as operator_module
import re
from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass, field
from decimal import Decimal
from typing import Any

from reliable_write.clock import Deadline
from reliable_write.dynamodb import CallFailed, CallName, ConditionRefused, TransactionCancelled
from reliable_write.dynamodb.failures import CancelReason
from reliable_write.policy import FailureKind
from reliable_write.values import WireItem

Request = Mapping[str, Any]
Holds = Callable[[Mapping[str, Any], Mapping[str, str], Mapping[str, Any]], bool]
_COMPARE: dict[str, Callable[[Any, Any], bool]] = {
    "=": operator_module.eq,
    "<>": operator_module.ne,
    "<": operator_module.lt,
    "<=": operator_module.le,
    ">": operator_module.gt,
    ">=": operator_module.ge,
}
_TOKENS = re.compile(r"\s*(attribute_not_exists|attribute_exists|AND|OR|>=|<=|<>|[()=<>,+]|[#:]?\w+)")


@dataclass
class Table:
    key_names: tuple[str, ...]
    items: dict[str, WireItem] = field(default_factory=dict)

    def place(self, item: WireItem) -> str:
        """All its keys are strings."""
        try:
            return "\0".join([item[name]["S"] for name in self.key_names])
        except KeyError:
            raise invalid() from None

    def place_of(self, key: WireItem) -> str:
        """The same for what must be a key and nothing else."""
        if len(key) != len(self.key_names):
            raise invalid()
        return self.place(key)


def invalid() -> CallFailed:
    """What DynamoDB calls a ValidationException."""
    return CallFailed(FailureKind.VALIDATION, "ValidationException", None)


class MemoryTables:
    """`Calls` over dictionaries.

    What is stored and what is given out are copies of the items, but not of the values in them: nobody changes those.
    """

    def __init__(self, *, page_items: int = 3, tells_old_items: bool = True, backwards: bool = False) -> None:
        self.tables: dict[str, Table] = {}
        self.page_items = page_items
        self.tells_old_items = tells_old_items
        self.backwards = backwards
        """Scans come in the other order: partitions have none that anybody may lean on."""
        self.sent: list[tuple[CallName, Request]] = []
        self.before: Callable[[CallName, Request], None] = lambda _call, _request: None
        """May raise, or change what is there, before a request is applied."""

    def create(self, name: str, *key_names: str) -> None:
        self.tables[name] = Table(key_names)

    def items(self, table: str) -> list[WireItem]:
        return [copy.deepcopy(item) for _, item in sorted(self.tables[table].items.items())]

    def send(self, call: CallName, request: Request, deadline: Deadline) -> dict[str, Any]:
        if deadline.passed():
            raise CallFailed(FailureKind.DEADLINE, "DeadlinePassed", request.get("TableName"))
        self.sent.append((call, request))
        self.before(call, request)
        return self.apply(call, request)

    def apply(self, call: CallName, request: Request) -> dict[str, Any]:
        """Let a request land."""
        answer: dict[str, Any] = getattr(self, f"_{call}")(request)
        return answer

    def _table(self, name: str) -> Table:
        if name not in self.tables:
            raise CallFailed(FailureKind.TABLE_MISSING, "ResourceNotFoundException", name)
        return self.tables[name]

    def _get_item(self, request: Request) -> dict[str, Any]:
        table = self._table(request["TableName"])
        item = table.items.get(table.place_of(request["Key"]))
        return {} if item is None else {"Item": _projected(item, request)}

    def _put_item(self, request: Request) -> dict[str, Any]:
        table = self._table(request["TableName"])
        place = table.place(request["Item"])
        self._check(request, table.items.get(place))
        table.items[place] = dict(request["Item"])
        return {}

    def _delete_item(self, request: Request) -> dict[str, Any]:
        table = self._table(request["TableName"])
        place = table.place_of(request["Key"])
        self._check(request, table.items.get(place))
        found = table.items.pop(place, None)
        return {"Attributes": found} if found and request.get("ReturnValues") == "ALL_OLD" else {}

    def _update_item(self, request: Request) -> dict[str, Any]:
        table = self._table(request["TableName"])
        place = table.place_of(request["Key"])
        self._check(request, table.items.get(place))
        item = dict(table.items.get(place) or request["Key"])
        _update(item, request)
        if table.place(item) != place:
            raise invalid()
        table.items[place] = item
        return {"Attributes": dict(item)}

    def _transact_write_items(self, request: Request) -> dict[str, Any]:
        """The token is not honoured, as ten minutes later: the same bytes may take effect twice."""
        actions = [next(iter(action.items())) for action in request["TransactItems"]]
        places = [(part["TableName"], self._place(part)) for _, part in actions]
        if not len(set(places)) == len(places) <= 100:
            raise invalid()
        reasons = [self._reason(part) for _, part in actions]
        if any(reason.refused for reason in reasons):
            raise TransactionCancelled(reasons)
        for kind, part in actions:
            if kind != "ConditionCheck":
                getattr(self, f"_{kind.lower()}_item")(part)
        return {}

    def _place(self, part: Request) -> str:
        table = self._table(part["TableName"])
        return table.place(part["Item"]) if "Item" in part else table.place_of(part["Key"])

    def _reason(self, part: Request) -> CancelReason:
        found = self._table(part["TableName"]).items.get(self._place(part))
        try:
            self._check(part, found)
        except ConditionRefused as refused:
            return CancelReason(None, "ConditionalCheckFailed", refused.found)
        return CancelReason(None)

    def _query(self, request: Request) -> dict[str, Any]:
        backwards = not request.get("ScanIndexForward", True)
        if request["KeyConditionExpression"] != "pk = :pk":
            return self._page(request, _holding("KeyConditionExpression", request), backwards=backwards)
        wanted = request["ExpressionAttributeValues"][":pk"]
        return self._page(request, lambda item: item["pk"] == wanted, backwards=backwards)

    def _scan(self, request: Request) -> dict[str, Any]:
        return self._page(request, lambda _: True, backwards=self.backwards)

    def _page(self, request: Request, wanted: Callable[[WireItem], bool], *, backwards: bool = False) -> dict[str, Any]:
        table = self._table(request["TableName"])
        start = request.get("ExclusiveStartKey")
        found = [(place, item) for place, item in sorted(table.items.items(), reverse=backwards) if wanted(item)]
        if start is not None:
            after = table.place(start)
            found = [(place, item) for place, item in found if (place < after if backwards else place > after)]
        size = min(self.page_items, request.get("Limit", self.page_items))
        read = [item for _, item in found[:size]]
        shown = list(filter(_holding("FilterExpression", request), read)) if "FilterExpression" in request else read
        page: dict[str, Any] = {
            "Items": [_projected(item, request) for item in shown],
            "Count": len(shown),
            "ScannedCount": len(read),
        }
        if len(found) > size:
            page["LastEvaluatedKey"] = {name: found[size - 1][1][name] for name in table.key_names}
        return page

    def _batch_get_item(self, request: Request) -> dict[str, Any]:
        asked = request["RequestItems"]
        if not 0 < sum(len(wanted["Keys"]) for wanted in asked.values()) <= 100:
            raise invalid()
        return {
            "Responses": {name: list(self._found(name, wanted)) for name, wanted in asked.items()},
            "UnprocessedKeys": {},
        }

    def _found(self, name: str, wanted: Request) -> Iterator[WireItem]:
        table = self._table(name)
        places = [table.place_of(key) for key in wanted["Keys"]]
        if len(set(places)) < len(places):
            raise invalid()
        for place in places:
            item = table.items.get(place)
            if item is not None:
                yield _projected(item, wanted)

    def _batch_write_item(self, request: Request) -> dict[str, Any]:
        rows = [(self._table(name), row) for name, rows in request["RequestItems"].items() for row in rows]
        changes = [(table, _written(table, row), row) for table, row in rows]
        if not 0 < len({(id(table), place) for table, place, _ in changes}) == len(changes) <= 25:
            raise invalid()
        for table, place, row in changes:
            if "PutRequest" in row:
                table.items[place] = dict(row["PutRequest"]["Item"])
            else:
                table.items.pop(place, None)
        return {"UnprocessedItems": {}}

    def _describe_table(self, request: Request) -> dict[str, Any]:
        table = self._table(request["TableName"])
        roles = ("HASH", "RANGE")
        return {
            "Table": {
                "TableName": request["TableName"],
                "TableStatus": "ACTIVE",
                "TableArn": f"arn:aws:dynamodb:us-east-1:000000000000:table/{request['TableName']}",
                "AttributeDefinitions": [{"AttributeName": name, "AttributeType": "S"} for name in table.key_names],
                "KeySchema": [
                    {"AttributeName": name, "KeyType": role} for name, role in zip(table.key_names, roles, strict=False)
                ],
            }
        }

    def _check(self, request: Request, found: WireItem | None) -> None:
        text = request.get("ConditionExpression")
        if text is None:
            return
        names, values = request.get("ExpressionAttributeNames", {}), request.get("ExpressionAttributeValues", {})
        if not _compiled(text)(found or {}, names, values):
            told = self.tells_old_items and request.get("ReturnValuesOnConditionCheckFailure") == "ALL_OLD"
            raise ConditionRefused(dict(found) if found is not None and told else None)


def _holding(member: str, request: Request) -> Callable[[WireItem], bool]:
    """Whether this expression of the request holds for an item."""
    holds = _compiled(request[member])
    names, values = request.get("ExpressionAttributeNames", {}), request.get("ExpressionAttributeValues", {})
    return lambda item: holds(item, names, values)


def _written(table: Table, row: Mapping[str, Any]) -> str:
    """Where one row of a batch writes."""
    return (
        table.place(row["PutRequest"]["Item"]) if "PutRequest" in row else table.place_of(row["DeleteRequest"]["Key"])
    )


def _projected(item: WireItem, request: Request) -> WireItem:
    names = [_name(part, request) for part in _listed(request.get("ProjectionExpression", ""))]
    return {name: item[name] for name in names if name in item} if names else dict(item)


@functools.lru_cache(maxsize=1000)
def _listed(text: str) -> list[str]:
    return [part.strip() for part in re.split(r",(?![^(]*\))", text) if part.strip()]


@functools.lru_cache(maxsize=1000)
def _verbs(text: str) -> list[str]:
    return re.split(r"\b(SET|REMOVE|ADD)\b", text)[1:]


def _update(item: WireItem, request: Request) -> None:
    parts = _verbs(request["UpdateExpression"])
    before = dict(item)
    for verb, text in zip(parts[::2], parts[1::2], strict=True):
        for part in _listed(text):
            if verb == "REMOVE":
                item.pop(_name(part, request), None)
            elif verb == "ADD":
                target, value = part.split()
                name = _name(target, request)
                item[name] = _added(before.get(name), request["ExpressionAttributeValues"][value])
            else:
                target, _, source = part.partition(" = ")
                item[_name(target, request)] = _sum([_operand(one, before, request) for one in source.split(" + ")])


def _added(before: dict[str, Any] | None, added: dict[str, Any]) -> dict[str, Any]:
    if "N" in added:
        return added if before is None else _sum([before, added])
    return {"SS": sorted({*(before or {"SS": []})["SS"], *added["SS"]})}


def _sum(values: list[dict[str, Any]]) -> dict[str, Any]:
    if len(values) > 1 and not all("N" in value for value in values):
        raise invalid()
    return values[0] if len(values) == 1 else {"N": str(sum(int(value["N"]) for value in values))}


def _operand(text: str, item: WireItem, request: Request) -> dict[str, Any]:
    if match := re.fullmatch(r"if_not_exists\((.+), (.+)\)", text):
        name = _name(match[1], request)
        return item[name] if name in item else _operand(match[2], item, request)
    value: dict[str, Any] | None = (
        request["ExpressionAttributeValues"][text] if text.startswith(":") else item.get(_name(text, request))
    )
    if value is None:
        raise invalid()
    return value


def _name(text: str, request: Request) -> str:
    name: str = request["ExpressionAttributeNames"][text] if text.startswith("#") else text
    return name


@functools.lru_cache(maxsize=1000)
def _compiled(text: str) -> Holds:
    return _Expression(text).compiled()


class _Expression:
    """AND, OR, brackets, comparisons and the two functions; as in DynamoDB, what is absent compares as false, and is
    unequal to everything.
    """

    def __init__(self, text: str) -> None:
        self._rest = _TOKENS.findall(text)
        assert "".join(self._rest) == re.sub(r"\s", "", text), f"this fake does not know: {text}"

    def compiled(self) -> Holds:
        holds = self._any()
        assert not self._rest, self._rest
        return holds

    def _any(self) -> Holds:
        parts = [self._all()]
        while self._took("OR"):
            parts.append(self._all())
        if len(parts) == 1:
            return parts[0]
        return lambda item, names, values: any(part(item, names, values) for part in parts)

    def _all(self) -> Holds:
        parts = [self._term()]
        while self._took("AND"):
            parts.append(self._term())
        if len(parts) == 1:
            return parts[0]
        return lambda item, names, values: all(part(item, names, values) for part in parts)

    def _term(self) -> Holds:
        if self._took("("):
            holds = self._any()
            assert self._took(")")
            return holds
        token = self._rest.pop(0)
        if token in ("attribute_not_exists", "attribute_exists"):
            assert self._took("(")
            name, wanted = self._rest.pop(0), token == "attribute_exists"
            assert self._took(")")
            return lambda item, names, _values: (names.get(name, name) in item) == wanted
        operator, value = self._rest.pop(0), self._rest.pop(0)
        compare = _COMPARE[operator]
        return lambda item, names, values: _compares(compare, item.get(names.get(token, token)), values[value])

    def _took(self, token: str) -> bool:
        if self._rest and self._rest[0] == token:
            self._rest.pop(0)
            return True
        return False


def _compares(compare: Callable[[Any, Any], bool], found: Any, value: Any) -> bool:
    if found is None or found.keys() != value.keys():
        return compare is operator_module.ne
    ((kind, mine),) = found.items()
    theirs = value[kind]
    if kind == "N":
        mine, theirs = Decimal(mine), Decimal(theirs)
    return bool(compare(mine, theirs))
