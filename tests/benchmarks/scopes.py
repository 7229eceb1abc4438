"""A scope beside what people would use instead, in one run, as ratios: `make bench`.

Each way writes the same fresh items; rounds are interleaved so that a busy machine is unfair to all alike. Emulators
tell nothing of DynamoDB's own latency: what shows is how many round trips follow one another, and the client's CPU.
"""

from __future__ import annotations

import argparse
import itertools
import json
import statistics
import time
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from contextlib import ExitStack
from functools import partial
from typing import Any

from reliable_write import ReliableWriter, ReliableWriteScope, Settings
from reliable_write.system_table import Installation
from reliable_write.testing.engines import ENGINES, Engine, absent
from reliable_write.values import encode_item

REGION = "us-east-1"
TABLES = ("bench-a", "bench-b", "bench-c")
Way = Callable[[list[tuple[str, dict[str, Any]]]], object]


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--engines", default="dynoxide,ministack")
    parser.add_argument("--sizes", default="3,10,25")
    parser.add_argument("--rounds", type=int, default=60)
    parser.add_argument("--json", action="store_true")
    options = parser.parse_args()
    rows = [row for name in options.engines.split(",") for row in bench(name, options)]
    print(json.dumps(rows, indent=2) if options.json else render(rows))


def bench(name: str, options: argparse.Namespace) -> list[dict[str, Any]]:
    reason = absent(name)
    if reason is not None:
        print(f"{name} is left out: {reason}")
        return []
    with ExitStack() as opened:
        ways = prepare(opened.enter_context(ENGINES[name]()), opened)
        return [measure(name, ways, int(size), options.rounds) for size in options.sizes.split(",")]


def prepare(engine: Engine, opened: ExitStack) -> dict[str, Way]:
    client = engine.client(max_pool_connections=40)
    opened.callback(client.close)
    for table in TABLES:
        client.create_table(
            TableName=table,
            KeySchema=[{"AttributeName": "id", "KeyType": "HASH"}],
            AttributeDefinitions=[{"AttributeName": "id", "AttributeType": "S"}],
            BillingMode="PAY_PER_REQUEST",
        )
    strict = opened.enter_context(_writer(engine, "journal-strict", Installation()))
    by_clock = opened.enter_context(_writer(engine, "journal-clock", Installation(order="clock")))
    pool = opened.enter_context(ThreadPoolExecutor(32))
    return {
        "scope (strict)": partial(_scope, strict),
        "scope (clock)": partial(_scope, by_clock),
        "native transaction": partial(_transaction, client),
        "bare puts, parallel": partial(_parallel, client, pool),
        "bare puts, one by one": partial(_one_by_one, client),
    }


def _writer(engine: Engine, system_table: str, installation: Installation) -> ReliableWriter:
    settings = Settings(endpoint_url=engine.endpoint_url, region=REGION, system_table=system_table)
    writer = ReliableWriter(settings, client=engine.client(max_pool_connections=40))
    writer.init(installation)
    return writer


def _scope(writer: ReliableWriter, items: list[tuple[str, dict[str, Any]]]) -> None:
    with ReliableWriteScope(writer) as scope:
        for table, item in items:
            scope.put_item(table, Item=item)
        scope.commit()


def _transaction(client: Any, items: list[tuple[str, dict[str, Any]]]) -> None:
    puts = [{"Put": {"TableName": table, "Item": encode_item(item, "bench")}} for table, item in items]
    client.transact_write_items(TransactItems=puts)


def _parallel(client: Any, pool: ThreadPoolExecutor, items: list[tuple[str, dict[str, Any]]]) -> None:
    list(pool.map(lambda put: client.put_item(TableName=put[0], Item=encode_item(put[1], "bench")), items))


def _one_by_one(client: Any, items: list[tuple[str, dict[str, Any]]]) -> None:
    for table, item in items:
        client.put_item(TableName=table, Item=encode_item(item, "bench"))


_numbers = itertools.count()


def fresh_items(size: int) -> list[tuple[str, dict[str, Any]]]:
    return [
        (TABLES[index % len(TABLES)], {"id": f"item-{next(_numbers)}", "name": "Ada Lovelace", "total": index})
        for index in range(size)
    ]


def measure(engine: str, ways: dict[str, Way], size: int, rounds: int) -> dict[str, Any]:
    seconds: dict[str, list[float]] = {name: [] for name in ways}
    for number in range(rounds + 3):
        for name, way in ways.items():
            items = fresh_items(size)
            start = time.perf_counter()
            way(items)
            if number >= 3:  # the first rounds open connections
                seconds[name].append(time.perf_counter() - start)
    medians = {name: statistics.median(taken) for name, taken in seconds.items()}
    return {"engine": engine, "items": size, "rounds": rounds, "median_seconds": medians}


def render(rows: list[dict[str, Any]]) -> str:
    lines = []
    for row in rows:
        base = row["median_seconds"]["bare puts, parallel"]
        lines.append(f"{row['engine']}, {row['items']} items, median of {row['rounds']} rounds:")
        lines += [
            f"  {name:24} {seconds * 1000:8.1f} ms   {seconds / base:5.2f} x parallel bare puts"
            for name, seconds in row["median_seconds"].items()
        ]
    return "\n".join(lines)


if __name__ == "__main__":
    main()
