"""A DynamoDB engine as a child process on loopback that dies with its parent: for demos, tutorials and tests.

Nothing here is for production: whoever reaches the port may do anything, and the data goes when the engine
goes.
"""

from reliable_write.embedded.ministack import EmbeddedEngine
from reliable_write.embedded.server import Command, LoopbackServer, dynamodb_client, local_session

__all__ = ["Command", "EmbeddedEngine", "LoopbackServer", "dynamodb_client", "local_session"]
