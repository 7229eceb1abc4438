"""The only room that calls DynamoDB.

`calls` is the narrow protocol: eleven calls with boto3's own shapes, one request each, no retries. `boto` is that
protocol over a boto3 client; a simulation brings its own. `store` adds patience and meaning: retries until the
deadline, unprocessed keys, the item that refused a condition. `schemas` remembers tables. Foreign errors are
translated in `failures` alone.
"""

from reliable_write.dynamodb.boto import BotoCalls, is_aws, open_client
from reliable_write.dynamodb.calls import CallName, Calls
from reliable_write.dynamodb.destinations import RoutedCalls, open_calls
from reliable_write.dynamodb.failures import CallFailed, CancelReason, ConditionRefused, TransactionCancelled
from reliable_write.dynamodb.schemas import Schemas
from reliable_write.dynamodb.store import Page, Store, batch_get_pages
from reliable_write.expressions import Condition

__all__ = [
    "BotoCalls",
    "CallFailed",
    "CallName",
    "Calls",
    "CancelReason",
    "Condition",
    "ConditionRefused",
    "Page",
    "RoutedCalls",
    "Schemas",
    "Store",
    "TransactionCancelled",
    "batch_get_pages",
    "is_aws",
    "open_calls",
    "open_client",
]
