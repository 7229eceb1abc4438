"""Counters: each is one item of an ordinary table, changed by plain conditional updates that count once.

`place` is where one lies and what its attribute holds; `steps` are the changes there are; `slots` says how a step is
known again, as pure rules, and `once` applies steps by them; `cleaning` removes the slots of those who are gone. On
these stand `atomic`, `sharded` and `handle`, which users hold; `keyed` and `blocks` are steps with an idempotency key.
"""

from reliable_write.counters.atomic import AtomicCounter
from reliable_write.counters.handle import Counter
from reliable_write.counters.sharded import ShardedCounter

__all__ = ["AtomicCounter", "Counter", "ShardedCounter"]
