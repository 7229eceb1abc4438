"""The service the demo kills: writes a shop's orders, each one scope over four tables, and says what it was told.

    python -m reliable_write.cli.shop --orders 24 --killed-in 17

It runs in a process of its own and talks to its parent in lines of JSON on stdout. SIGKILL comes from inside, at a
chosen place between two requests, so that every run shows the same; it is the same signal and nothing is cleaned up.
"""

from __future__ import annotations

import argparse
import json
import sys
import threading
import time
from typing import Any, Final

from reliable_write import ReliableWriter, ReliableWriteScope
from reliable_write.testing.faults import Call, FaultPlan, kill

ORDERS: Final = "orders"
LINES: Final = "order-lines"
RESERVATIONS: Final = "reservations"
CUSTOMERS: Final = "customer-orders"

KEYS: Final[dict[str, tuple[tuple[str, str], ...]]] = {
    ORDERS: (("order", "S"),),
    LINES: (("order", "S"), ("line", "N")),
    RESERVATIONS: (("sku", "S"), ("order", "S")),
    CUSTOMERS: (("customer", "S"), ("order", "S")),
}
"""The tables in the order in which a scope writes them, each with its key."""

_CATALOGUE: Final = (
    ("tea-assam", "Assam, 250 g", 890),
    ("tea-sencha", "Sencha, 100 g", 1450),
    ("pot-iron", "Iron teapot, 0.8 l", 6200),
    ("cup-blue", "Cup, blue glaze", 1150),
    ("tin-small", "Tea tin, small", 640),
)
_CUSTOMERS: Final = ("ada", "barbara", "edsger", "grace", "leslie")
_HOLD_SECONDS_MAX: Final = 30.0

Content = dict[str, list[dict[str, Any]]]
"""Items by table."""


def order_id(number: int) -> str:
    """The order's name in every table."""
    return f"order-{number:04d}"


def order_content(number: int) -> Content:
    """Everything the shop writes for one order; the same number always gives the same items."""
    name, customer = order_id(number), _CUSTOMERS[number % len(_CUSTOMERS)]
    goods = [_CATALOGUE[(number + line) % len(_CATALOGUE)] for line in range(2 + number % 3)]
    total = sum(price * (1 + line) for line, (_, _, price) in enumerate(goods))
    return {
        ORDERS: [{"order": name, "customer": customer, "lines": len(goods), "total_cents": total}],
        LINES: [
            {"order": name, "line": line + 1, "sku": sku, "text": text, "pieces": line + 1, "price_cents": price}
            for line, (sku, text, price) in enumerate(goods)
        ],
        RESERVATIONS: [{"sku": sku, "order": name, "pieces": line + 1} for line, (sku, _, _) in enumerate(goods)],
        CUSTOMERS: [{"customer": customer, "order": name, "total_cents": total}],
    }


def write_order(writer: ReliableWriter, number: int) -> str:
    """One order, all of it or nothing; returns the write's id."""
    content = order_content(number)
    with ReliableWriteScope(writer) as scope:
        scope.put_item(ORDERS, Item=content[ORDERS][0])
        scope.put_items(LINES, content[LINES])
        scope.put_items(RESERVATIONS, content[RESERVATIONS])
        scope.put_item(CUSTOMERS, Item=content[CUSTOMERS][0])
        return scope.commit().write_id


class HalfWay:
    """Ends this process when a part of one order has reached its tables and the rest has not left the process.

    The order itself and all but its last line go out; the last line, the reservations and the customer's entry are
    held back just before they would be sent.
    """

    def __init__(self, plan: FaultPlan, number: int) -> None:
        content = order_content(number)
        self._last_line = len(content[LINES])
        self._to_apply = len(content[ORDERS]) + len(content[LINES]) - 1
        self._lock = threading.Lock()
        mark = f'"{order_id(number)}"'.encode()
        plan.on("PutItem", self._hold_back, having=mark)
        plan.on("PutItem", self._kill_when_enough, "after", having=mark)

    def _hold_back(self, call: Call) -> None:
        request = json.loads(call.body)
        goes_out = request["TableName"] == ORDERS or (
            request["TableName"] == LINES and int(request["Item"]["line"]["N"]) < self._last_line
        )
        if not goes_out:
            threading.Event().wait(_HOLD_SECONDS_MAX)

    def _kill_when_enough(self, call: Call) -> None:
        with self._lock:
            self._to_apply -= 1
            if self._to_apply == 0:
                kill(call)


def main() -> None:
    """Write orders until killed."""
    parser = argparse.ArgumentParser(prog="python -m reliable_write.cli.shop", description=__doc__)
    parser.add_argument("--orders", type=int, required=True)
    parser.add_argument("--killed-in", type=int, required=True, metavar="ORDER")
    arguments = parser.parse_args()
    writer = ReliableWriter()
    HalfWay(FaultPlan(writer.client), arguments.killed_in)
    for number in range(1, arguments.orders + 1):
        begun = time.perf_counter()
        write_id = write_order(writer, number)
        _say(order=number, write_id=write_id, milliseconds=(time.perf_counter() - begun) * 1000)
    writer.close()


def _say(**facts: object) -> None:
    sys.stdout.write(json.dumps(facts) + "\n")
    sys.stdout.flush()


if __name__ == "__main__":
    main()
