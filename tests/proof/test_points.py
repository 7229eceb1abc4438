"""A fixed part of the enumeration, each 41st cell of all; the whole of it is `python -m tests.proof.points`."""

from __future__ import annotations

import os

from tests.proof.cases import Case, Plan
from tests.proof.ledger import record
from tests.proof.points import actors_of, cells, run
from tests.proof.shapes import SHAPES, Shape
from tests.proof.wire import Fault

EVERY = int(os.environ.get("RELIABLE_WRITE_POINTS_EVERY", "41"))


def test_whatever_goes_wrong_at_any_request_of_anybody_each_promise_holds() -> None:
    chosen = list(cells(SHAPES))[::EVERY]
    totals = run(chosen, pairs=False)
    assert totals.violations == []
    assert totals.visited == totals.cells == len(chosen) > 800
    assert {cell.fault for cell in chosen} == set(Fault)
    assert all(totals.counts[f"faults: {fault}"] > 0 for fault in Fault)
    for outcome in ("WRITTEN", "NOT_WRITTEN", "WILL_BE_WRITTEN", "UNKNOWN", "died", "landed late", "conflict"):
        assert totals.counts[f"outcomes: {outcome}"] > 0, outcome
    record(f"single faults, each {EVERY}th", totals.ledger())


def test_each_shape_has_its_actors_and_each_actor_makes_requests() -> None:
    assert len(SHAPES) >= 24
    assert {len(shape.deeds) for shape in SHAPES} >= {1, 2, 3, 25}
    for shape in SHAPES:
        assert {"committer", "audit"} <= set(actors_of(shape))


def test_a_shape_in_chunks_is_really_in_chunks() -> None:
    case = Case(Plan(_named("one put in chunks"), "committer"))
    case.run()
    whole = Case(Plan(_named("one put over an item"), "committer"))
    whole.run()
    assert len(case.wire.trace) > len(whole.wire.trace) + 1


def _named(name: str) -> Shape:
    return next(shape for shape in SHAPES if shape.name == name)
