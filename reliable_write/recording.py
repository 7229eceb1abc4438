"""What a scope has recorded: each operation is checked against all that can be known before it becomes part of it."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Mapping, Sequence
from typing import Any, Final, Protocol

from reliable_write import limits
from reliable_write.at_commit import ONE_TRANSACTION, Change, Given, make_guarded, make_update
from reliable_write.engine import Engine
from reliable_write.errors import (
    BatchTooLargeError,
    DuplicateKeyError,
    TooManyOperationsError,
    UnknownTableError,
    UnsupportedOperationError,
    WriteRejectedError,
    WriteTooLargeError,
)
from reliable_write.intents import (
    Checkable,
    Intent,
    Intents,
    IntentVerb,
    Writable,
    WriteVerb,
    intent_of,
    one_table,
)
from reliable_write.operations import (
    Action,
    AnyAction,
    AtCommit,
    AtCommitVerb,
    Operation,
    StampNames,
    TableSchema,
    Verb,
    action_path,
    canonical_key,
    check_batch,
    make_delete,
    make_put,
)
from reliable_write.plan import as_at_commit, operation_bytes, transaction_refused
from reliable_write.settings import split_alias
from reliable_write.values import decode_item

Recorded = Operation | AtCommit

_VERBS: Final[dict[IntentVerb, AtCommitVerb]] = {"put": "put_item", "delete": "delete_item", "check": "condition_check"}


class HasEngine(Protocol):
    """What a scope needs of a writer."""

    def engine(self) -> Engine:
        """The parts that do the work."""
        ...


class Recording:
    """The operations of one scope, in the caller's order. What it refuses it does not hold."""

    def __init__(self, writer: HasEngine, *, keyed: bool) -> None:
        """`keyed`: the scope has an idempotency key."""
        self.operations: list[Recorded] = []
        self.count = 0
        """Sub-operations; a batch is one, also where its items take effect at the commit, each by itself."""
        self.intents = Intents()
        self._writer = writer
        self._parts: Engine | None = None
        self._keyed = keyed
        self._places: dict[tuple[str, ...], str] = {}
        self._bytes = 0

    @property
    def engine(self) -> Engine:
        """The writer's parts; asked for once, when first needed."""
        if self._parts is None:
            self._parts = self._writer.engine()
        return self._parts

    @property
    def _names(self) -> StampNames:
        return self.engine.installation.names

    def one(self, verb: AtCommitVerb, table: str, content: Mapping[str, Any], given: Given) -> None:
        """A put, delete or check of one item; at commit where something `given` makes it so."""

        def make(schema: TableSchema, number: int) -> list[Recorded]:
            if given.why is not None:
                return [make_guarded(verb, schema, content, given, self._names, number)]
            assert verb != "update_item"
            assert verb != "condition_check"
            given.check_alone(f"operations[{number}] {verb} on {table}")
            return [Operation(verb, tuple(self._make(verb, schema, [content])), number)]

        self._record(verb, table, make)

    def update(self, table: str, key: Mapping[str, Any], change: Change, given: Given) -> None:
        """An update of one item."""

        def make(schema: TableSchema, number: int) -> list[Recorded]:
            return [make_update(schema, key, change, given, self._names, number)]

        self._record("update_item", table, make)

    def batch(self, verb: Verb, table: str, contents: Iterable[Mapping[str, Any]]) -> None:
        """Puts or deletes of up to 25 items of one table."""
        batch = check_batch(contents, self._place)
        self._check_batch_size(f"{verb} on {table}", len(batch))
        self._record(
            verb, table, lambda schema, number: [Operation(verb, tuple(self._make(verb, schema, batch)), number)]
        )

    def writable(self, verb: IntentVerb, writable: Writable | Checkable) -> None:
        """One object that knows its own table."""
        place = self._place
        intent = intent_of(writable, verb, place, self.engine.time)
        self.one(_VERBS[verb], intent.table, intent.content, intent.given)
        self.intents.add(place, intent)

    def writables(self, verb: WriteVerb, writables: Iterable[Writable]) -> None:
        """Up to 25 of them, of one table. Where one has a condition, all take effect at the commit."""
        place = self._place
        batch = check_batch(writables, place)
        self._check_batch_size(f"{verb}_items", len(batch))
        time = self.engine.time
        intents = [intent_of(one, verb, f"{place}.items[{index}]", time) for index, one in enumerate(batch)]
        self._record_intents(verb, one_table(intents, place), intents)
        for index, intent in enumerate(intents):
            self.intents.add(f"{place}.items[{index}]", intent)

    def _record_intents(self, verb: WriteVerb, table: str, intents: Sequence[Intent]) -> None:
        whole: Verb = "put_items" if verb == "put" else "delete_items"
        if all(intent.given.why is None for intent in intents):
            self.batch(whole, table, [intent.content for intent in intents])
            return

        def make(schema: TableSchema, number: int) -> list[Recorded]:
            return [self._make_at_commit(verb, schema, intent, number, item) for item, intent in enumerate(intents)]

        self._record(whole, table, make)

    def _make_at_commit(self, verb: WriteVerb, schema: TableSchema, intent: Intent, number: int, item: int) -> AtCommit:
        single: AtCommitVerb = "put_item" if verb == "put" else "delete_item"
        try:
            return make_guarded(single, schema, intent.content, intent.given, self._names, number, item)
        except WriteRejectedError as refusal:
            refusal.operation = f"{self._place}.items[{item}]"
            raise

    @property
    def _place(self) -> str:
        """Of the operation that is recorded next."""
        return f"operations[{self.count}]"

    def _check_batch_size(self, what: str, items: int) -> None:
        if not 0 < items <= limits.BATCH_ITEMS_MAX:
            advice = "Use several batches." if items else "Leave an empty one out."
            raise BatchTooLargeError(
                f"{self._place} {what}: {items} items; a batch takes 1 to {limits.BATCH_ITEMS_MAX}. {advice}",
                operation=self._place,
            )

    def in_one_transaction(self) -> tuple[AtCommit, ...]:
        """All of it as operations at commit. Raises `UnsupportedOperationError` or `WriteTooLargeError`, by name."""
        operations = as_at_commit(self.operations)
        for operation in operations:
            self._check_at_home(
                operation, f"{operation.place} {operation.verb} on {operation.table} ({ONE_TRANSACTION})"
            )
        if refused := transaction_refused(operations):
            raise WriteTooLargeError(
                f'This scope has {refused}. Nothing was written. commit() without strategy="transaction" takes it.'
            )
        self.engine.capabilities.require_transactions(ONE_TRANSACTION, self.engine.attempt_deadline())
        return operations

    def _record(self, verb: str, table: str, make: Callable[[TableSchema, int], list[Recorded]]) -> None:
        """Check everything first, then record: what is refused is no part of the scope (Simol journalled it)."""
        place = self._place
        if self.count >= limits.OPERATIONS_MAX:
            raise TooManyOperationsError(
                f"{place} {verb} on {table}: a scope takes {limits.OPERATIONS_MAX} sub-operations, and this would be "
                "one more. Put items of one table together with put_items.",
                operation=place,
                table=table,
            )
        schema = schema_of(self.engine, table)
        self._check_stamp_names(schema)
        if self._keyed:
            self.engine.capabilities.require_transactions("An idempotency key", self.engine.attempt_deadline())
        try:
            operations = make(schema, self.count)
        except WriteRejectedError as refusal:
            refusal.table = schema.table
            if verb not in ("put_items", "delete_items"):  # those name the item
                refusal.operation = place
            raise
        self._check_at_commit_count(operations, place)
        for operation in operations:
            if isinstance(operation, AtCommit):
                self._check_at_commit(operation)
        places = self._places_of(operations)
        size = self._bytes + sum(operation_bytes(operation) for operation in operations)
        if size > limits.SCOPE_BYTES_MAX:
            raise WriteTooLargeError(
                f"{place} {verb} on {table}: the scope would hold {size} bytes; it takes {limits.SCOPE_BYTES_MAX}.",
                table=table,
            )
        self.operations += operations
        self.count += 1
        self._places.update(places)
        self._bytes = size

    def _check_at_commit_count(self, operations: Sequence[Recorded], place: str) -> None:
        count = sum(isinstance(operation, AtCommit) for operation in (*self.operations, *operations))
        if count > limits.AT_COMMIT_KEYS_MAX:
            raise WriteTooLargeError(
                f"{place}: {count} items of this scope would take effect at its commit (updates, conditions, checked "
                f"versions); it takes {limits.AT_COMMIT_KEYS_MAX}. Write the others in another scope, or without a "
                "condition.",
                operation=place,
            )

    def _check_at_commit(self, operation: AtCommit) -> None:
        what = f"{operation.place} {operation.verb} on {operation.table} ({operation.why})"
        try:
            self._check_at_home(operation, what)
            self.engine.capabilities.require_transactions(what, self.engine.attempt_deadline())
        except WriteRejectedError as refusal:
            refusal.operation, refusal.table = operation.place, operation.table
            raise

    def _check_at_home(self, operation: AtCommit, what: str) -> None:
        alias, _ = split_alias(operation.table)
        if alias is not None:
            raise UnsupportedOperationError(
                f"{what} takes effect in the commit point itself, which is in the account and Region of the journal; "
                f"{alias!r} is elsewhere. Puts and deletes without conditions may go there."
            )

    def _check_stamp_names(self, schema: TableSchema) -> None:
        clashing = [key for key in schema.index_keys if key.type != "S"] + list(schema.key)
        if {key.name for key in clashing} & {self._names.full, self._names.update}:
            raise UnsupportedOperationError(
                f"Table {schema.table!r} has a key attribute named like the stamp ({self._names.full}, "
                f"{self._names.update}). "
                "Choose other names for the whole installation: reliable-write init --stamp-attribute NAME.",
                table=schema.table,
            )

    def _make(self, verb: Verb, schema: TableSchema, contents: list[Mapping[str, Any]]) -> Iterable[Action]:
        for index, content in enumerate(contents):
            place = self._place + (f".items[{index}]" if verb.endswith("s") else "")
            try:
                put = verb.startswith("put")
                yield make_put(schema, content, self._names, place) if put else make_delete(schema, content, place)
            except WriteRejectedError as refusal:
                refusal.operation, refusal.table = place, schema.table
                raise

    def _places_of(self, operations: Iterable[Recorded]) -> dict[tuple[str, ...], str]:
        places: dict[tuple[str, ...], str] = {}
        for place, action in self._located(operations):
            key = canonical_key(action)
            earlier = places.get(key) or self._places.get(key)
            if earlier is not None:
                raise DuplicateKeyError(
                    f"{place} in {action.table}: the same item (key {', '.join(action.key_names)}) is written by "
                    f"{earlier}. "
                    "A scope writes each item once: keep the one that should hold.",
                    operation=place,
                    table=action.table,
                    key=decode_item(action.key),
                )
            places[key] = place
        return places

    def _located(self, operations: Iterable[Recorded]) -> Iterable[tuple[str, AnyAction]]:
        for operation in operations:
            for index, action in enumerate(operation.actions):
                if isinstance(operation, AtCommit):
                    yield operation.place, action
                else:
                    yield action_path(operation, self.count, index), action


def schema_of(engine: Engine, table: str) -> TableSchema:
    """The schema of a table as a user names it. Raises `UnknownTableError`, or as `Schemas.get`."""
    if not isinstance(table, str) or not table:  # type: ignore[redundant-expr]  # callers may not type-check
        raise UnknownTableError(f"A table is given by its name, a string, not by {type(table).__name__}.")
    alias, name = split_alias(table)
    if ":" in name:
        raise UnknownTableError(
            f"Table {table!r}: give the table's name, not its ARN. Tables in other accounts and Regions are "
            "reached by alias: ReliableWriter(destinations={...}).",
            table=table,
        )
    if alias is not None and alias not in engine.settings.destinations:
        raise UnknownTableError(
            f"Table {table!r}: no destination {alias!r} is registered with this writer. Give the plain name of a "
            "table in the writer's own account and Region, or ReliableWriter(destinations={...}).",
            table=table,
        )
    if table == engine.settings.system_table:
        raise UnknownTableError(f"Table {table!r} is the journal's own. Choose another table.", table=table)
    return engine.schemas.get(table)
