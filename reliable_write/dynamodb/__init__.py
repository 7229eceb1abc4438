"""The only room that calls DynamoDB.

`calls` is the narrow protocol: eleven calls with boto3's own shapes, one request each, no retries. `boto` is that
protocol over a boto3 client; a simulation brings its own. `patience` retries until the deadline; on it stand `store`,
the verbs of the engine, with unprocessed keys and the item that refused a condition, and `reading`, what an application
reads. `schemas` remembers tables. Foreign errors are translated in `failures` alone.
"""

from reliable_write.dynamodb.boto import BotoCalls, is_aws, open_client
from reliable_write.dynamodb.calls import CallName, Calls
from reliable_write.dynamodb.destinations import RoutedCalls, open_calls
from reliable_write.dynamodb.failures import CallFailed, CancelReason, ConditionRefused, TransactionCancelled
from reliable_write.dynamodb.reading import Reader, Reading
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
    "Reader",
    "Reading",
    "RoutedCalls",
    "Schemas",
    "Store",
    "TransactionCancelled",
    "batch_get_pages",
    "is_aws",
    "open_calls",
    "open_client",
]
