"""Models of other libraries, as their users keep them, and how an instance gets into a scope and back.

Each peer holds one model with every attribute type its library has and a small one with a version, bound to two tables
of a world. `put` and `delete` are what docs/interop.md shows.
"""

from tests.integration.peers.base import BYTES, Peer, python_values
from tests.integration.peers.with_dyntastic import DYNTASTICS_BINARY, DyntasticPeer
from tests.integration.peers.with_pydynox import PydynoxPeer
from tests.integration.peers.with_pynamodb import PynamoPeer, taken

PEERS: dict[str, type[Peer]] = {peer.name: peer for peer in (PynamoPeer, DyntasticPeer, PydynoxPeer)}

__all__ = [
    "BYTES",
    "DYNTASTICS_BINARY",
    "PEERS",
    "DyntasticPeer",
    "Peer",
    "PydynoxPeer",
    "PynamoPeer",
    "python_values",
    "taken",
]
