"""Every bound and default in one place, each with its source or its reason; relations between them are asserted here.

Units are the last word of a name. "AWS" below is the DynamoDB Developer Guide, "Quotas in Amazon DynamoDB"
(https://docs.aws.amazon.com/amazondynamodb/latest/developerguide/ServiceQuotas.html).
"""

from typing import Final

KB: Final = 1024
MB: Final = 1024 * KB

# --- what a scope takes -------------------------------------------------------------------------------------------
OPERATIONS_MAX: Final = 25
"""Sub-operations of one scope. A limit people can hold in mind; 25 x 25 items are enough for one business event."""
BATCH_ITEMS_MAX: Final = 25
"""Items of one `put_items` or `delete_items`: BatchWriteItem's own limit (AWS), so that a batch means the same here."""
SCOPE_ITEMS_MAX: Final = OPERATIONS_MAX * BATCH_ITEMS_MAX
SCOPE_BYTES_MAX: Final = 32 * MB
"""All items of one scope as DynamoDB counts them. At 350 KB a chunk this is under a hundred journal records."""

# --- DynamoDB's limits (AWS) --------------------------------------------------------------------------------------
ITEM_BYTES_MAX: Final = 400 * KB
HASH_KEY_BYTES_MAX: Final = 2048
RANGE_KEY_BYTES_MAX: Final = 1024
ATTRIBUTE_NAME_BYTES_MAX: Final = 64 * KB - 1
KEY_ATTRIBUTE_NAME_BYTES_MAX: Final = 255
NESTING_LEVELS_MAX: Final = 32
NUMBER_DIGITS_MAX: Final = 38
TABLE_NAME_CHARACTERS_MIN: Final = 3
TABLE_NAME_CHARACTERS_MAX: Final = 255
BATCH_GET_KEYS_MAX: Final = 100
BATCH_WRITE_REQUESTS_MAX: Final = 25
TRANSACTION_ACTIONS_MAX: Final = 100
TRANSACTION_BYTES_MAX: Final = 4 * MB
EXPRESSION_BYTES_MAX: Final = 4 * KB
CALLERS_EXPRESSION_BYTES_MAX: Final = EXPRESSION_BYTES_MAX - 512
"""Of a caller's condition or update: the guards that stand beside it take under 512 bytes."""

AT_COMMIT_KEYS_MAX: Final = (TRANSACTION_ACTIONS_MAX - 2) // 2
"""Keys written inside the commit's own transaction. Each takes two actions, the operation and a look at its tombstone;
two more are the journal entry and the receipt."""
IDEMPOTENCY_KEY_BYTES_MAX: Final = 256
"""It becomes part of keys, log lines and command lines."""

# --- the journal --------------------------------------------------------------------------------------------------
CHUNK_BYTES_MAX: Final = 350 * KB
"""Compressed payload kept in the entry itself; more goes to chunks. 50 KB are left for the entry's own attributes."""
ENTRY_BYTES_DECODED_MAX: Final = 64 * MB
"""A payload before compression, as JSON. One bound for both directions: a commit that would exceed it is refused before
anything is written, and an entry that claims more is refused unread, so that a forged one cannot eat the monitor."""
SHARDS: Final = 64
"""Journal partitions. One DynamoDB partition takes 1,000 write units a second; 64 carry some 20,000 scopes a second."""
SHARDS_MAX: Final = 1000
"""Three digits in a shard's name; a look at all of them is as many queries."""
ERROR_CHARACTERS_MAX: Final = 500
"""Last error kept in an entry: enough for a person, too little to change the entry's write units."""

# --- time ---------------------------------------------------------------------------------------------------------
ATTEMPT_DEADLINE_SECONDS: Final = 8.0
"""From before an attempt's first request; past it the attempt sends nothing more."""
LEASE_SECONDS: Final = 10.0
"""An entry seen unchanged for this long is a straggler. Saves work only; safety never leans on it."""
MONITOR_POLL_SECONDS: Final = 4.0
CONNECT_TIMEOUT_SECONDS: Final = 1.0
READ_TIMEOUT_SECONDS: Final = 4.0
"""Of one request. Half a deadline, so that one lost answer leaves room for another try."""
RETRY_BASE_SECONDS: Final = 0.05
RETRY_CAP_SECONDS: Final = 1.0
"""Between requests within one attempt: full jitter up to base * 2**n, capped."""
HEARTBEAT_SECONDS: Final = 5.0
HEARTBEAT_ALIVE_SECONDS: Final = 20.0
"""A monitor not heard of for longer counts as gone: four beats, and room for skewed clocks."""
HEARTBEAT_KEPT_SECONDS: Final = 86_400.0
ROLE_RETRY_SECONDS: Final = 5.0
"""After it a role that could not be assumed is asked for again; until then all threads share one refusal."""
MONITOR_CHECK_SECONDS: Final = 2.0
MONITOR_CHECK_EVERY_SECONDS: Final = 60.0
"""A writer that leaves an entry to the monitors looks whether there is one: so long, and not more often than that."""
AUDIT_SECONDS: Final = 365 * 86_400.0
"""How long audit records are kept, by TTL."""
BACKOFF_BASE_SECONDS: Final = 1.0
BACKOFF_CAP_SECONDS: Final = 300.0
"""Between attempts, kept in the entry: full jitter too."""
COMMIT_REPEAT_SECONDS: Final = 600.0
"""How long a scope whose commit is UNKNOWN may be committed again. After it a finished delete's tombstone may be
collected, and the old stamp could bring a deleted item back."""
SIGNED_REQUEST_SECONDS: Final = 1800.0
"""How long a signed request may still be accepted. AWS says 5 minutes; the rest is margin for skew."""
COLLECTION_WAIT_SECONDS: Final = COMMIT_REPEAT_SECONDS + ATTEMPT_DEADLINE_SECONDS + SIGNED_REQUEST_SECONDS
"""W: the longest that anything sent by a committer can still land."""
RECEIPT_RETENTION_SECONDS: Final = 14 * 86_400.0
"""How long a receipt is kept at least: so long the same idempotency key gives the same write. DynamoDB Streams, SQS and
most task queues give up within 14 days."""
RECEIPT_RETENTION_SECONDS_MIN: Final = 86_400.0
CLOCK_ORDER_COLLECTION_SECONDS: Final = 86_400.0
"""How much longer tombstones live where nobody witnesses them: the most by which two followed clocks may differ."""
SCHEDULED_AUDIT_MARGIN_SECONDS: Final = 86_400.0
"""Added to each wait of scheduled audits, where one machine's wall clock begins it and another's ends it. AWS refuses
requests of a machine whose clock is off by more than minutes, and collection is off where signatures are not checked:
a day is far beyond what two machines that are answered can differ by, and the same as for stamps."""
EARLY_AUDIT_SECONDS: Final = ATTEMPT_DEADLINE_SECONDS + LEASE_SECONDS + READ_TIMEOUT_SECONDS
"""After a tombstone is first seen: attempts begun before it are out of time, and what they sent has arrived. A ghost
that comes later still is found before the tombstone is collected."""
AUDIT_PAUSE_SECONDS_MAX: Final = 86_400.0
"""Between audits of a key whose tombstone an older entry holds back: half a million keys are six reads a second."""
WATCHED_TOMBSTONES_MAX: Final = 500_000
"""Tombstones one auditor follows at a time, in at most some 200 MB; others wait until some of these are collected."""
WATCHED_CHUNK_GROUPS_MAX: Final = 50_000
WATCHED_RECEIPTS_MAX: Final = 200_000
"""Receipts old enough to go that one auditor follows at a time."""
WATCHED_ENTRIES_MAX: Final = 200_000
"""Entries a scheduled audit remembers to tell chunks with a head from those without; with more it judges no chunks."""
COLLECTIONS_PER_AUDIT_MAX: Final = 20_000
STAMP_AHEAD_SECONDS_MAX: Final = 86_400.0
"""A stamp further in the future than this is not taken for ours: following it would move everybody's clock."""
SCHEMA_TTL_SECONDS: Final = 300.0
"""How long a DescribeTable answer is believed. Key schemas never change while a table lives; indexes come and go."""
SCHEMA_REFRESH_SECONDS: Final = 1.0
SCHEMA_RETRY_SECONDS: Final = 30.0
"""A known schema outlives a failed refresh: writing must not depend on the control plane."""
SHARED_WRITE_SECONDS: Final = 30.0
"""How long a write of a shared record goes on trying: some dozens of tries beside a handful of other processes. It
answers within this and one commit."""
SHARED_RETRY_BASE_SECONDS: Final = 0.02
SHARED_RETRY_CAP_SECONDS: Final = 1.0
"""Between the tries of an update: full jitter up to base * 2**n, capped. The base is what a read and a commit take."""
DELETED_KEPT_SECONDS: Final = 86_400.0
"""How long others are told that a shared record was deleted: whoever holds one looks at it more often than that."""
FLUSH_LINGER_SECONDS: Final = 1.0
"""A finished entry waits this long for company before its deletion is sent; a full batch goes at once."""

# --- locks --------------------------------------------------------------------------------------------------------
LOCK_LEASE_SECONDS: Final = 20.0
"""How long a lock outlives its holder's last sign of life. As in the AWS lock client."""
LOCK_HEARTBEATS_PER_LEASE: Final = 4
"""Where no heartbeat is given: one may fail, and its retries too, before the lease is in danger."""
LOCK_SAFE_SHARE: Final = 0.5
"""Of a lease, where nothing else is given: without a renewal for longer it is in danger."""
LOCK_POLL_SECONDS: Final = 0.75
LOCK_POLL_BASE_SECONDS: Final = 0.02
"""Between two looks of somebody who waits: full jitter up to base * 2**n, capped. The base is what a short hold
takes."""
LOCK_DATA_BYTES_MAX: Final = 64 * KB
"""Of the data beside a lock: each heartbeat writes the item anew, at one write unit for each KB."""
LOCK_OWNER_CHARACTERS_MAX: Final = 256

# --- looking for pending writes -----------------------------------------------------------------------------------
LOOK_KEYS_MAX: Final = BATCH_GET_KEYS_MAX
"""Keys of one look: a page of a list. They share one walk over the journal."""
LOOK_ELSEWHERE_SECONDS: Final = 2.0
"""How long a look waits for the stamps of a pending write's other items: a dead Region must not hold up what is to be
said about a live one."""
LOOK_KEYS_REMEMBERED_MAX: Final = 100_000
"""Keys of entries in chunks that a process remembers, so as not to read the chunks anew with every look: some 10 MB."""

# --- counters -----------------------------------------------------------------------------------------------------
COUNTER_SLOT_SECONDS: Final = 300.0
"""A slot of a counter not used for so long may be removed by others. No step can count twice for that, whatever the
clocks say; but whether a step that got no answer was counted can be found out for so long only, and each slot makes the
counter's item larger. Many times an attempt, and few enough slots of short-lived clients."""
COUNTER_SLOT_SECONDS_MIN: Final = 30.0
"""The same where there are more than `COUNTER_SLOTS_MAX`: beyond the end of any attempt, with room for wrong clocks."""
COUNTER_SLOTS_MAX: Final = 64
"""Slots of a counter that are left alone while younger than `COUNTER_SLOT_SECONDS`: 5 KB, 5 write units a step."""
COUNTER_SLOTS_COLLECTED_MAX: Final = 50
"""Slots removed by one request: some 2 KB of expressions."""
COUNTER_LOOK_SECONDS: Final = 60.0
"""How often a handle looks for slots to remove: with its first step, and then with one step in so long (up to twice so
long, by chance: of many handles few should come at once)."""
COUNTER_COLLECT_SECONDS: Final = 1.0
"""How long it tries to, after a step that is done: somebody else will if it cannot."""
COUNTER_STEP_MAX: Final = 10**24
COUNTER_VALUE_MAX: Final = 10**36
"""Of bounds and beginnings. A number of DynamoDB holds 38 digits exactly: what begins under 10**36 and goes by less
than 10**24 does not get there in a century."""
COUNTER_SHARDS_MAX: Final = BATCH_GET_KEYS_MAX
"""A sharded counter is read by one request."""

# --- uploads to S3 ------------------------------------------------------------------------------------------------
# "S3" below is the S3 User Guide, "Amazon S3 multipart upload limits"
# (https://docs.aws.amazon.com/AmazonS3/latest/userguide/qfacts.html).
OBJECT_KEY_BYTES_MAX: Final = 1024
"""S3, "Naming Amazon S3 objects"."""
UPLOAD_PARALLEL: Final = 8
"""Requests of one run at once; each holds one part, so that with the default part 64 MB are in memory."""
UPLOAD_PARALLEL_MAX: Final = 256
UPLOAD_PART_BYTES: Final = 8 * MB
"""A file of up to one part is one PutObject. The same as boto3's own transfers."""
UPLOAD_PART_BYTES_MIN: Final = 5 * MB
UPLOAD_PART_BYTES_MAX: Final = 5 * 1024 * MB
UPLOAD_PARTS_MAX: Final = 10_000
"""S3. A file that would have more gets larger parts."""
UPLOAD_LEASE_SECONDS: Final = 15.0
"""A claim seen unchanged for this long may be taken over. Saves work only: what must not happen twice is refused by
S3 itself."""
UPLOAD_LEASE_SECONDS_MIN: Final = 0.1
UPLOAD_RENEWALS: Final = 3
"""In one lease, so that two may fail."""
UPLOAD_LOOK_SECONDS: Final = 1.0
"""Between looks at what others are sending: full jitter."""
UPLOAD_PATIENCE_SECONDS: Final = 60.0
"""How long one request is tried for before the run ends: S3 asks to slow down for as long as it splits partitions."""
UPLOAD_RETRY_CAP_SECONDS: Final = 5.0
UPLOAD_RESTARTS_MAX: Final = 3
"""Times a multipart upload that somebody has aborted is begun anew within one run."""
S3_CONNECT_TIMEOUT_SECONDS: Final = 5.0
S3_READ_TIMEOUT_SECONDS: Final = 60.0
"""Of one request, between two bytes: completing a large upload takes S3 long, and it sends blanks meanwhile."""
ORPHAN_SECONDS: Final = 86_400.0
"""A multipart upload younger than this is left alone by a cleaning, unless it is told another age."""

# --- work ---------------------------------------------------------------------------------------------------------
PROPAGATION_THREADS: Final = 32
UNCLASSIFIED_ATTEMPTS_MAX: Final = 20
TABLE_MISSING_SECONDS: Final = 600.0
ZSTD_LEVEL: Final = 3

assert LOCK_LEASE_SECONDS > LOCK_LEASE_SECONDS / LOCK_HEARTBEATS_PER_LEASE + 2 * (
    CONNECT_TIMEOUT_SECONDS + READ_TIMEOUT_SECONDS
), "two answers may be lost before a lease is"
assert LOCK_POLL_SECONDS < 1, "a dead holder's lock is taken over within its lease and a second"
assert COUNTER_SLOT_SECONDS > COUNTER_SLOT_SECONDS_MIN > 2 * LEASE_SECONDS, "an attempt is over; leases outlast them"
assert SHARED_WRITE_SECONDS > 2 * ATTEMPT_DEADLINE_SECONDS, "a commit without an answer can be asked for once more"
assert SCHEDULED_AUDIT_MARGIN_SECONDS >= 2 * SIGNED_REQUEST_SECONDS, "two clocks, each as wrong as is answered"
assert RECEIPT_RETENTION_SECONDS_MIN > 2 * COLLECTION_WAIT_SECONDS, "nothing of its write may still be under way"
assert SCOPE_ITEMS_MAX == 625  # noqa: PLR2004 - the promise of the first page
assert BATCH_ITEMS_MAX <= BATCH_WRITE_REQUESTS_MAX
assert AT_COMMIT_KEYS_MAX == 49  # noqa: PLR2004 - the promise of the documents
assert CHUNK_BYTES_MAX < ITEM_BYTES_MAX - 16 * KB, "the entry's own attributes need room beside a payload"
assert ENTRY_BYTES_DECODED_MAX >= 2 * SCOPE_BYTES_MAX, "strings and base64 of a full scope fit; lists of nulls may not"
assert LEASE_SECONDS > ATTEMPT_DEADLINE_SECONDS, "or the monitor would race every slow first attempt"
assert ATTEMPT_DEADLINE_SECONDS >= 2 * READ_TIMEOUT_SECONDS, "or one lost answer would eat the whole attempt"
assert UPLOAD_PART_BYTES_MIN <= UPLOAD_PART_BYTES <= UPLOAD_PART_BYTES_MAX
assert len("s3://") + 63 + 1 + OBJECT_KEY_BYTES_MAX <= HASH_KEY_BYTES_MAX, "an object's address is a key of the ledger"
