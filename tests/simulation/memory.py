"""Tables in memory, behind the engine's own `Calls` protocol: every request is one atomic step, pages are small.

It knows exactly the expressions that the library sends and refuses all others. A request may be caught on its way out
and land later, or never: that is how a test says "still in flight".
"""

from __future__ import annotations

import copy
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
_COMPARE: dict[str, Callable[[Any, Any], bool]] = {
    "=": operator_module.eq,
    "<": operator_module.lt,
    "<=": operator_module.le,
    ">=": operator_module.ge,
}
_TOKENS = re.compile(r"\s*(attribute_not_exists|attribute_exists|AND|OR|>=|<=|[()=<,+]|[#:]?\w+)")


@dataclass
class Table:
    key_names: tuple[str, ...]
    items: dict[str, WireItem] = field(default_factory=dict)

    def place(self, item: WireItem) -> str:
        return "\0".join(f"{next(iter(item[name].values()))}" for name in self.key_names)


class MemoryTables:
    """`Calls` over dictionaries."""

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
        answer: dict[str, Any] = copy.deepcopy(getattr(self, f"_{call}")(copy.deepcopy(request)))
        return answer

    def _table(self, name: str) -> Table:
        if name not in self.tables:
            raise CallFailed(FailureKind.TABLE_MISSING, "ResourceNotFoundException", name)
        return self.tables[name]

    def _get_item(self, request: Request) -> dict[str, Any]:
        table = self._table(request["TableName"])
        item = table.items.get(table.place(request["Key"]))
        return {} if item is None else {"Item": item}

    def _put_item(self, request: Request) -> dict[str, Any]:
        table = self._table(request["TableName"])
        place = table.place(request["Item"])
        self._check(request, table.items.get(place))
        table.items[place] = request["Item"]
        return {}

    def _delete_item(self, request: Request) -> dict[str, Any]:
        table = self._table(request["TableName"])
        place = table.place(request["Key"])
        self._check(request, table.items.get(place))
        table.items.pop(place, None)
        return {}

    def _update_item(self, request: Request) -> dict[str, Any]:
        table = self._table(request["TableName"])
        place = table.place(request["Key"])
        self._check(request, table.items.get(place))
        item = dict(table.items.get(place) or request["Key"])
        _update(item, request)
        table.items[place] = item
        return {"Attributes": item}

    def _transact_write_items(self, request: Request) -> dict[str, Any]:
        """The token is not honoured, as ten minutes later: the same bytes may take effect twice."""
        actions = [next(iter(action.items())) for action in request["TransactItems"]]
        places = [(part["TableName"], self._place(part)) for _, part in actions]
        assert len(set(places)) == len(places) <= 100
        reasons = [self._reason(part) for _, part in actions]
        if any(reason.refused for reason in reasons):
            raise TransactionCancelled(reasons)
        for kind, part in actions:
            if kind != "ConditionCheck":
                getattr(self, f"_{kind.lower()}_item")(part)
        return {}

    def _place(self, part: Request) -> str:
        return self._table(part["TableName"]).place(part.get("Item") or part["Key"])

    def _reason(self, part: Request) -> CancelReason:
        found = self._table(part["TableName"]).items.get(self._place(part))
        try:
            self._check(part, found)
        except ConditionRefused as refused:
            return CancelReason(None, "ConditionalCheckFailed", refused.found)
        return CancelReason(None)

    def _query(self, request: Request) -> dict[str, Any]:
        assert request["KeyConditionExpression"] == "pk = :pk"
        wanted = request["ExpressionAttributeValues"][":pk"]
        return self._page(request, lambda item: item["pk"] == wanted)

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
        page = [_projected(item, request) for _, item in found[:size]]
        if len(found) <= size:
            return {"Items": page}
        return {"Items": page, "LastEvaluatedKey": {name: found[size - 1][1][name] for name in table.key_names}}

    def _batch_get_item(self, request: Request) -> dict[str, Any]:
        return {
            "Responses": {name: list(self._found(name, wanted)) for name, wanted in request["RequestItems"].items()}
        }

    def _found(self, name: str, wanted: Request) -> Iterator[WireItem]:
        table = self._table(name)
        for key in wanted["Keys"]:
            item = table.items.get(table.place(key))
            if item is not None:
                yield _projected(item, wanted)

    def _batch_write_item(self, request: Request) -> dict[str, Any]:
        for name, rows in request["RequestItems"].items():
            assert 0 < len(rows) <= 25
            for row in rows:
                self._table(name).items.pop(self._table(name).place(row["DeleteRequest"]["Key"]), None)
        return {}

    def _describe_table(self, request: Request) -> dict[str, Any]:
        table = self._table(request["TableName"])
        roles = ("HASH", "RANGE")
        return {
            "Table": {
                "TableName": request["TableName"],
                "AttributeDefinitions": [{"AttributeName": name, "AttributeType": "S"} for name in table.key_names],
                "KeySchema": [
                    {"AttributeName": name, "KeyType": role} for name, role in zip(table.key_names, roles, strict=False)
                ],
            }
        }

    def _check(self, request: Request, found: WireItem | None) -> None:
        if not _Expression(request["ConditionExpression"], request, found or {}).holds():
            raise ConditionRefused(copy.deepcopy(found) if self.tells_old_items else None)


def _projected(item: WireItem, request: Request) -> WireItem:
    names = [request["ExpressionAttributeNames"][part] for part in _listed(request.get("ProjectionExpression", ""))]
    return {name: value for name, value in item.items() if not names or name in names}


def _listed(text: str) -> list[str]:
    return [part.strip() for part in re.split(r",(?![^(]*\))", text) if part.strip()]


def _update(item: WireItem, request: Request) -> None:
    parts = re.split(r"\b(SET|REMOVE|ADD)\b", request["UpdateExpression"])[1:]
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
        raise CallFailed(FailureKind.VALIDATION, "ValidationException", None)
    return values[0] if len(values) == 1 else {"N": str(sum(int(value["N"]) for value in values))}


def _operand(text: str, item: WireItem, request: Request) -> dict[str, Any]:
    if match := re.fullmatch(r"if_not_exists\((.+), (.+)\)", text):
        name = _name(match[1], request)
        return item[name] if name in item else _operand(match[2], item, request)
    value: dict[str, Any] = (
        request["ExpressionAttributeValues"][text] if text.startswith(":") else item[_name(text, request)]
    )
    return value


def _name(text: str, request: Request) -> str:
    name: str = request["ExpressionAttributeNames"][text] if text.startswith("#") else text
    return name


class _Expression:
    """AND, OR, brackets, comparisons and the two functions; as in DynamoDB, what is absent compares as false."""

    def __init__(self, text: str, request: Request, item: WireItem) -> None:
        self._rest = _TOKENS.findall(text)
        assert "".join(self._rest) == re.sub(r"\s", "", text), f"this fake does not know: {text}"
        self._request = request
        self._item = item

    def holds(self) -> bool:
        held = self._any()
        assert not self._rest, self._rest
        return held

    def _any(self) -> bool:
        held = self._all()
        while self._took("OR"):
            held = self._all() or held
        return held

    def _all(self) -> bool:
        held = self._term()
        while self._took("AND"):
            held = self._term() and held
        return held

    def _term(self) -> bool:
        if self._took("("):
            held = self._any()
            assert self._took(")")
            return held
        token = self._rest.pop(0)
        if token in ("attribute_not_exists", "attribute_exists"):
            assert self._took("(")
            name = _name(self._rest.pop(0), self._request)
            assert self._took(")")
            return bool((name in self._item) == (token == "attribute_exists"))
        operator, value = self._rest.pop(0), self._request["ExpressionAttributeValues"][self._rest.pop(0)]
        found = self._item.get(_name(token, self._request))
        if found is None or found.keys() != value.keys():
            return False
        ((mine, theirs),) = zip(found.values(), value.values(), strict=True)
        if "N" in found:
            mine, theirs = Decimal(mine), Decimal(theirs)
        return bool(_COMPARE[operator](mine, theirs))

    def _took(self, token: str) -> bool:
        if self._rest and self._rest[0] == token:
            self._rest.pop(0)
            return True
        return False
