"""Counters beside the tutorial's ADD: one after the other, and by several threads at once: `make bench`.

Rounds are interleaved so that a busy machine is unfair to all alike. Emulators tell nothing of DynamoDB's own latency,
and they have no partitions: what shows is the client's CPU, and that spreading over shards costs next to nothing, not
what it gains.
"""

from __future__ import annotations

import argparse
import json
import statistics
import time
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from contextlib import ExitStack
from typing import Any

from reliable_write import AtomicCounter, Counter, ReliableWriter, Settings, ShardedCounter
from reliable_write.testing.engines import ENGINES, Engine, absent

REGION = "us-east-1"
TABLE = "bench-counters"
Way = Callable[[], object]


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--engines", default="dynoxide,ministack")
    parser.add_argument("--rounds", type=int, default=200)
    parser.add_argument("--threads", type=int, default=8)
    parser.add_argument("--json", action="store_true")
    options = parser.parse_args()
    rows = [row for name in options.engines.split(",") for row in bench(name, options)]
    print(json.dumps(rows, indent=2) if options.json else "\n".join(render(row) for row in rows))


def bench(name: str, options: argparse.Namespace) -> list[dict[str, Any]]:
    reason = absent(name)
    if reason is not None:
        print(f"{name} is left out: {reason}")
        return []
    with ExitStack() as opened:
        writer = prepare(opened.enter_context(ENGINES[name]()), opened)
        latencies = one_by_one(ways(writer), options.rounds)
        rates = at_once(writer, options.threads, options.rounds)
        facts = {"rounds": options.rounds, "threads": options.threads}
        return [{"engine": name, **facts, "median_seconds": latencies, "steps_per_second": rates}]


def prepare(engine: Engine, opened: ExitStack) -> ReliableWriter:
    client = engine.client(max_pool_connections=40)
    opened.callback(client.close)
    client.create_table(
        TableName=TABLE,
        KeySchema=[{"AttributeName": "id", "KeyType": "HASH"}],
        AttributeDefinitions=[{"AttributeName": "id", "AttributeType": "S"}],
        BillingMode="PAY_PER_REQUEST",
    )
    settings = Settings(endpoint_url=engine.endpoint_url, region=REGION, system_table="bench-journal")
    writer = opened.enter_context(ReliableWriter(settings, client=client))
    writer.init()
    return writer


def ways(writer: ReliableWriter) -> dict[str, Way]:
    keys = iter(range(10**9))
    atomic = AtomicCounter(writer, TABLE, "atomic")
    return {
        "ADD, unprotected": plain(writer),
        "AtomicCounter.add": atomic.add,
        "AtomicCounter.add, bounded": AtomicCounter(writer, TABLE, "bounded", maximum=10**9).add,
        "AtomicCounter.add with a key": lambda: atomic.add(idempotency_key=f"bench-{next(keys)}"),
        "Counter += 1": Counter(writer, TABLE, "handle").add,
        "ShardedCounter(8).add": ShardedCounter(writer, TABLE, "sharded", shards=8).add,
    }


def plain(writer: ReliableWriter) -> Way:
    client = writer.client
    return lambda: client.update_item(
        TableName=TABLE,
        Key={"id": {"S": "plain"}},
        UpdateExpression="ADD #v :n",
        ExpressionAttributeNames={"#v": "value"},
        ExpressionAttributeValues={":n": {"N": "1"}},
        ReturnValues="UPDATED_NEW",
    )


def one_by_one(ways: dict[str, Way], rounds: int) -> dict[str, float]:
    seconds: dict[str, list[float]] = {name: [] for name in ways}
    for number in range(rounds + 3):
        for name, way in ways.items():
            start = time.perf_counter()
            way()
            if number >= 3:  # the first rounds open connections
                seconds[name].append(time.perf_counter() - start)
    return {name: statistics.median(taken) for name, taken in seconds.items()}


def at_once(writer: ReliableWriter, threads: int, steps: int) -> dict[str, float]:
    """Each thread with a handle of its own, as so many processes would have; the sharded ones also with one for all."""
    shared = ShardedCounter(writer, TABLE, "sharded-one", shards=8)
    kinds: dict[str, Callable[[], Way]] = {
        "ADD, unprotected": lambda: plain(writer),
        "AtomicCounter.add": lambda: AtomicCounter(writer, TABLE, "atomic-many").add,
        "ShardedCounter(8).add": lambda: ShardedCounter(writer, TABLE, "sharded-many", shards=8).add,
        "ShardedCounter(8).add, one handle": lambda: shared.add,
    }
    rates: dict[str, list[float]] = {name: [] for name in kinds}
    with ThreadPoolExecutor(threads) as pool:
        for _ in range(3):
            for name, make in kinds.items():
                steppers = [make() for _ in range(threads)]
                start = time.perf_counter()
                list(pool.map(lambda step: [step() for _ in range(steps // 2)], steppers))
                rates[name].append(threads * (steps // 2) / (time.perf_counter() - start))
    return {name: statistics.median(found) for name, found in rates.items()}


def render(row: dict[str, Any]) -> str:
    base, rate = row["median_seconds"]["ADD, unprotected"], row["steps_per_second"]["ADD, unprotected"]
    lines = [f"{row['engine']}, one by one, median of {row['rounds']} rounds:"]
    lines += [
        f"  {name:34} {seconds * 1000:8.2f} ms   {seconds / base:5.2f} x ADD"
        for name, seconds in row["median_seconds"].items()
    ]
    lines.append(f"{row['engine']}, {row['threads']} threads at once (no partitions here: see the module):")
    lines += [
        f"  {name:34} {steps:8.0f} /s   {steps / rate:5.2f} x ADD" for name, steps in row["steps_per_second"].items()
    ]
    return "\n".join(lines)


if __name__ == "__main__":
    main()
