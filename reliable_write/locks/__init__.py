"""Locks with leases: one item of an ordinary table each, and a fencing token by which the store refuses a zombie.

`lock` is the handle, `lease` what a holder holds, `items` the conditional writes, `waiting` the verdicts of those who
wait, `heartbeat` what keeps a lease alive, `many` several locks at once.
"""

from reliable_write.locks.items import LockState
from reliable_write.locks.lease import Lease
from reliable_write.locks.lock import Lock
from reliable_write.locks.many import Leases, acquire_all

__all__ = ["Lease", "Leases", "Lock", "LockState", "acquire_all"]
