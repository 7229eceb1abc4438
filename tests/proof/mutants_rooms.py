"""Guards of counters, locks, records and uploads, to be taken out one by one by `python -m tests.proof.mutants`.

`ROOM_MUTANTS` are mutants as the others are; `checkers_of` says who judges one of them: the enumeration of its room,
then the room's own tests that need no engine.
"""

from __future__ import annotations

from tests.proof.mutants import Checker, Mutant

_ONCE, _SLOTS = "reliable_write/counters/once.py", "reliable_write/counters/slots.py"
_STEPS, _ITEMS = "reliable_write/counters/steps.py", "reliable_write/locks/items.py"
_LEDGER, _SENDING = "reliable_write/uploads/ledger.py", "reliable_write/uploads/sending.py"
_OBJECTS, _VERSIONS = "reliable_write/uploads/objects.py", "reliable_write/records/versions.py"

COUNTERS: tuple[Mutant, ...] = (
    Mutant(
        "a step does not look at its slot",
        _SLOTS,
        "OR #floor < :stamp)) OR #slot < :stamp)",
        "OR #floor < :stamp)) OR attribute_exists(#slot))",
        "a step counts once",
    ),
    Mutant(
        "a step does not look at the floor",
        _SLOTS,
        "OR #floor < :stamp)) OR",
        "OR attribute_exists(#floor))) OR",
        "a step counts once",
    ),
    Mutant(
        "a slot removed and the floor left",
        _SLOTS,
        "        raised += [] if high_enough else",
        "        raised += [] if high_enough or values else",
        "a step counts once",
    ),
    Mutant(
        "what may be applied is tried anew",
        _ONCE,
        "        if attempt.ambiguous and standing is not Standing.OUTRUN:",
        "        if attempt.settled and standing is not Standing.OUTRUN:",
        "a step counts once",
    ),
    Mutant(
        "a step without an answer is told as refused",
        _ONCE,
        "        if attempt.ambiguous:\n            self._raise_unknown(attempt, failure)",
        "        if attempt.settled:\n            self._raise_unknown(attempt, failure)",
        "unknown is told",
    ),
    Mutant(
        "settled without a fence",
        _ONCE,
        "            place.engine.store.change(place.table, place.key, update, condition, deadline)\n",
        "            assert place.engine.store and update and condition and deadline\n",
        "unknown is told truly",
    ),
    Mutant(
        "the next step does not settle the one before",
        _ONCE,
        "        if doubtful is None:\n",
        "        if doubtful is None or doubtful.ambiguous:\n",
        "unknown can be told",
    ),
    Mutant(
        "a handle steps from what it has not seen",
        _STEPS,
        '        return "#v = :seen"',
        '        return "(attribute_exists(#v) OR #v = :seen)"',
        "out of sync is told",
    ),
    Mutant(
        "a bound is looked at where there is nothing",
        _STEPS,
        'else "#v >= :limit"',
        'else "(attribute_exists(#v) OR #v >= :limit)"',
        "bounds",
    ),
    Mutant(
        "a block of ids over another",
        "reliable_write/counters/blocks.py",
        '{"#key": block.hash_name}',
        '{"#key": "nothing"}',
        "the same ids for a key",
    ),
    Mutant(
        "a key that is not used",
        "reliable_write/counters/keyed.py",
        "idempotency_key=key, independent",
        "idempotency_key=None, independent",
        "once for a key",
    ),
    Mutant(
        "repaired without looking",
        "reliable_write/counters/repair.py",
        'Condition("#v = :seen"',
        'Condition("(attribute_exists(#v) OR #v = :seen)"',
        "no step is lost",
    ),
)
LOCKS: tuple[Mutant, ...] = (
    Mutant(
        "taken from one who came back",
        _ITEMS,
        '"#id = :seen_id AND #token = :seen_token AND #beat = :seen_beat"',
        '"#id = :seen_id AND #token = :seen_token AND #beat >= :seen_beat"',
        "a holder lives",
    ),
    Mutant(
        "taken though somebody holds it",
        _ITEMS,
        '("attribute_not_exists(#id)", {})',
        '("attribute_not_exists(#nothing) OR attribute_not_exists(#id)", {})',
        "one holder",
    ),
    Mutant(
        "taken for had, whoever has it",
        "reliable_write/locks/lock.py",
        "        if state.lease_id != lease_id or ends.passed():",
        "        if ends.passed():",
        "one holder",
    ),
    Mutant(
        "taken over before a lease has passed",
        "reliable_write/locks/waiting.py",
        "if sight.remaining_seconds <= 0 else",
        "if sight.remaining_seconds <= 5 else",
        "a holder lives",
    ),
    Mutant(
        "a token that does not grow",
        _ITEMS,
        "if_not_exists(#token, :begin) + :one",
        "if_not_exists(#token, :begin) + :zero",
        "fencing",
    ),
    Mutant(
        "a release takes the token off",
        _ITEMS,
        '"REMOVE #owner, #id, #beat, #lease, #since"',
        '"REMOVE #owner, #id, #beat, #lease, #since, #token"',
        "fencing",
    ),
    Mutant(
        "a zombie's guard holds",
        _ITEMS,
        '"#id = :id AND #token = :token", names',
        '"attribute_exists(#token) OR #id = :id OR #token = :token", names',
        "fencing",
    ),
    Mutant(
        "renewed and released by anybody",
        _ITEMS,
        '"#id = :id AND #token = :token", values',
        '"(attribute_exists(#token) OR #id = :id OR #token = :token)", values',
        "one holder",
    ),
    Mutant(
        "it waits for itself",
        "reliable_write/locks/waiting.py",
        "our_prefix is not None and",
        "our_prefix is None and",
        "its own is known again",
    ),
    Mutant(
        "a lost lock is told as kept",
        "reliable_write/locks/hold.py",
        "        kept = released.done or (released.unclear and self._in_time)",
        "        kept = released.done or self._in_time or not released.unclear",
        "lost is told",
    ),
    Mutant(
        "one of two is kept where the other is not had",
        "reliable_write/locks/many.py",
        "            undo.push(taken[id(lock)])\n",
        "",
        "all or none",
    ),
)
RECORDS: tuple[Mutant, ...] = (
    Mutant(
        "put over what is later",
        _VERSIONS,
        'return Given("#version = :version", names, same)',
        'return Given("(attribute_exists(#version) OR #version = :version)", names, same)',
        "no lost update",
    ),
    Mutant(
        "a version that does not grow", _VERSIONS, "        return local + 1\n", "        return local\n", "versions"
    ),
    Mutant(
        "a mark with the version before",
        "reliable_write/records/lifecycle.py",
        "stored(self._version.field, following)",
        "stored(self._version.field, local if following else local)",
        "versions",
    ),
    Mutant(
        "an unknown update is made anew",
        "reliable_write/records/shared.py",
        "                if not unknown.retryable or seconds >= deadline.remaining_seconds():\n"
        "                    raise\n",
        "                if seconds < deadline.remaining_seconds():\n"
        "                    raise CommitFailedError('', retryable=True) from unknown\n",
        "an update counts once",
    ),
    Mutant(
        "a read that does not look",
        "reliable_write/records/watch.py",
        "known is not None and self._read_serial() == known:",
        "known is not None:",
        "a stale one is noticed",
    ),
    Mutant(
        "a new one that does not go on from the mark",
        "reliable_write/records/places.py",
        "        if not seen.mark:\n",
        "        if not seen.mark or record:\n",
        "deleted ones are made anew",
    ),
)
UPLOADS: tuple[Mutant, ...] = (
    Mutant(
        "claimed over another's claim",
        _LEDGER,
        'Condition("attribute_not_exists(#k)", {"#k": KEY}, {})',
        'Condition("attribute_not_exists(#k)", {"#k": "nothing"}, {})',
        "what is done stays so",
    ),
    Mutant(
        "moved without looking at the version",
        _LEDGER,
        '"#v = :v AND #a = :a AND #s = :sending"',
        '"(attribute_exists(#v) OR #v = :v) AND #a = :a AND #s = :sending"',
        "one holds a claim",
    ),
    Mutant(
        "moved though it is done",
        _LEDGER,
        '"#v = :v AND #a = :a AND #s = :sending"',
        '"#a = :a AND (attribute_exists(#s) OR #v = :v OR #s = :sending)"',
        "what is done stays so",
    ),
    Mutant(
        "done twice",
        _LEDGER,
        '"attribute_not_exists(#k) OR #s <> :done"',
        '"attribute_not_exists(#k) OR attribute_exists(#s) OR #s <> :done"',
        "what is done stays so",
    ),
    Mutant(
        "put over an object",
        _OBJECTS,
        "            Body=data,\n            IfNoneMatch=ONLY_IF_ABSENT,\n",
        "            Body=data,\n",
        "one version",
    ),
    Mutant(
        "completed over an object",
        _OBJECTS,
        "for number in sorted(parts)]},\n            IfNoneMatch=ONLY_IF_ABSENT,\n",
        "for number in sorted(parts)]},\n",
        "one version",
    ),
    Mutant(
        "other content taken for ours",
        _SENDING,
        "        if (sha256, found.size) != (task.content.sha256, task.content.size):\n",
        "        if found.size < 0:\n",
        "content is told",
    ),
    Mutant(
        "uploaded is told by two",
        _SENDING,
        "mine = by is By.SENT and (known is None or known.by is By.FOUND)",
        "mine = by is By.SENT",
        "uploaded is told once",
    ),
    Mutant(
        "an upload of another content is resumed",
        "reliable_write/uploads/claims.py",
        "        resumed = seen.upload is not None and (seen.sha256, seen.size) == (sha256, size)\n",
        "        resumed = seen.upload is not None\n",
        "content is told",
    ),
)
ROOM_MUTANTS: tuple[Mutant, ...] = (*COUNTERS, *LOCKS, *RECORDS, *UPLOADS)

_QUIET = ("-q", "-x", "-p", "no:cacheprovider")
_UNIT = {
    "counters": ("tests/unit/test_counter_faults.py",),
    "locks": ("tests/unit/locks",),
    "records": ("tests/unit/records/test_versions.py", "tests/unit/records/test_watch.py"),
    "uploads": ("tests/unit/test_uploads_files.py",),
}


def checkers_of(mutant: Mutant) -> tuple[Checker, ...]:
    """Who judges it, first those that find out soonest."""
    room = mutant.file.split("/")[1]
    enumeration = ("-m", "tests.proof.rooms", "--room", room, "--stop-at-first")
    return (
        Checker(f"each 7th fault in {room}", (*enumeration, "--every", "7")),
        Checker(f"all faults in {room}", enumeration),
        Checker(f"unit tests of {room}", ("-m", "pytest", *_QUIET, *_UNIT[room])),
    )
