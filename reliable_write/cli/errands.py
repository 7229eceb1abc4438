"""The commands about writes, once their command line is parsed: look or do, tell, and give the exit code."""

from __future__ import annotations

import contextlib
from collections.abc import Sequence
from dataclasses import dataclass, replace
from typing import Final

from reliable_write.cli import deeds, person, render_deeds, render_doctor, speech
from reliable_write.cli import render_writes as render
from reliable_write.cli.bulk import stopped_by_ctrl_c
from reliable_write.cli.connect import connect
from reliable_write.cli.deeds import Selection
from reliable_write.cli.desk import Desk, open_desk
from reliable_write.cli.doctor import diagnose
from reliable_write.cli.exits import CommandError, ExitCode
from reliable_write.cli.listing import Filters, Listing, Overview, check_states, look, overview, parse_span
from reliable_write.cli.options import At, Form
from reliable_write.cli.plans import Plan, read_plan
from reliable_write.cli.showing import deed_facts, examined, explanation_facts, shown
from reliable_write.clock import Deadline, is_stamp
from reliable_write.entry import Entry, UnreadableEntry
from reliable_write.errors import EntryNotFoundError, UnsupportedOperationError
from reliable_write.explain import Explanation, duration, explain, explain_absent, explain_garbled
from reliable_write.operators import is_stuck
from reliable_write.permissions import ROLES, Role

_NEVER_SEEN: Final = (
    "The journal has no entry for it, and had none when this command began: it was finished before, or it was never "
    "committed. The journal cannot tell which."
)
WATCH_SECONDS: Final = 2.0
WAIT_SECONDS: Final = 1.0


@dataclass(frozen=True, slots=True)
class Wanted:
    """The filters of a command line, as typed."""

    states: tuple[str, ...] = ()
    table: str | None = None
    older_than: str | None = None
    error: str | None = None

    def filters(self) -> Filters:
        """Checked. Raises `CommandError`."""
        older = None if self.older_than is None else parse_span(self.older_than)
        return Filters(check_states(self.states), self.table, older, self.error)


@dataclass(frozen=True, slots=True)
class Manner:
    """How a deed is to be done."""

    reason: str = ""
    dry_run: bool = False
    yes: bool = False
    rate: float | None = None
    plan_out: str | None = None
    now: bool = False


# --- looking ------------------------------------------------------------------------------------------------------


def status(at: At, form: Form, *, overdue_after: str | None, exit_code: bool) -> ExitCode:
    """Everything in one look."""
    with open_desk(at) as desk:
        seen = overview(desk) if overdue_after is None else overview(desk, parse_span(overdue_after))
        if form.machine:
            speech.print_json(seen.facts())
        else:
            render.show_status(desk, seen)
        return _stuck_code(seen) if exit_code else ExitCode.DONE


def _stuck_code(seen: Overview) -> ExitCode:
    return ExitCode.PARTLY if seen.stuck else ExitCode.DONE


def list_writes(at: At, form: Form, wanted: Wanted, *, limit: int | None, watch: bool) -> ExitCode:
    """Entries, oldest first."""
    filters = wanted.filters()
    with open_desk(at) as desk:
        if watch:
            return _watch(desk, form, filters)
        listing = look(desk, filters)
        _show_listing(desk, form, listing, limit)
        return ExitCode.PARTLY if listing.unread_shards else ExitCode.DONE


def _show_listing(desk: Desk, form: Form, listing: Listing, limit: int | None) -> None:
    if not form.machine:
        render.show_list(desk, listing, speech.LIST_ROWS if limit is None else limit)
        return
    rows = [row.facts() for row in (listing.rows[:limit] if limit else listing.rows)]
    if form.lines:
        speech.print_jsonl(rows)
        render.say_incomplete(desk, listing)
        return
    speech.print_json(
        {
            "entries": len(listing.rows),
            "counts": listing.counts,
            "unread_shards": list(listing.unread_shards),
            "left_out": listing.without_tables,
            "writes": rows,
        }
    )


def _watch(desk: Desk, form: Form, filters: Filters) -> ExitCode:
    if form.machine or not speech.console().is_terminal:
        raise CommandError(ExitCode.USAGE, "--watch draws on a terminal. For a program, run the list again and again.")
    try:
        with render.Watch() as screen:
            while True:
                screen.draw(look(desk, filters), desk.now_milliseconds())
                desk.engine.time.sleep(WATCH_SECONDS)
    except KeyboardInterrupt:
        return ExitCode.DONE


def show(at: At, form: Form, write_id: str, *, reveal: bool, everything: bool) -> ExitCode:
    """One write beside its tables."""
    with open_desk(at) as desk:
        write = shown(examined(desk, write_id), desk.now_milliseconds(), reveal=reveal)
        if form.machine:
            speech.print_json(write.facts())
        else:
            render.show_write(desk, write, everything=everything)
    return ExitCode.DONE


def explain_write(at: At, form: Form, write_id: str) -> ExitCode:
    """The same in sentences; a write without an entry is explained too, and is still NOT_FOUND."""
    with open_desk(at) as desk:
        explanation, code = _explanation(desk, write_id)
        commands = [desk.told(advice.command) for advice in explanation.advice]
        if form.machine:
            speech.print_json(explanation_facts(explanation, commands))
        else:
            render.show_explanation(explanation, commands)
        return code


def _explanation(desk: Desk, write_id: str) -> tuple[Explanation, ExitCode]:
    try:
        examination = desk.engine.operators.examine(write_id)
    except EntryNotFoundError:
        receipt = desk.engine.receipts.find(write_id, desk.deadline())
        code = ExitCode.NOT_FOUND if receipt is None else ExitCode.DONE
        return explain_absent(write_id, desk.deeds_about(write_id), receipt), code
    except UnsupportedOperationError as error:  # it is there, and no version we know wrote its head
        reason = error.__cause__.reason if isinstance(error.__cause__, UnreadableEntry) else error.message
        return explain_garbled(write_id, reason), ExitCode.DONE
    told = explain(examination, monitors_alive=desk.monitors_alive(), now_milliseconds=desk.now_milliseconds())
    return told, ExitCode.DONE


def wait(at: At, form: Form, write_id: str, *, timeout: str) -> ExitCode:
    """Until its entry is gone; says what that means, and what it does not."""
    seconds = parse_span(timeout)
    with open_desk(at) as desk:
        _check_known(desk, write_id)
        try:
            entry, seen = _await_absence(desk, write_id, seconds)
        except UnreadableEntry as error:
            raise CommandError(
                ExitCode.PARTLY,
                f"The entry of write {write_id} is there and cannot be read: {error.reason}. Nobody finishes it. "
                f"Run: {desk.told(f'reliable-write writes explain {write_id}')}",
            ) from error
        ended, told = _ending(desk, write_id, entry, seen=seen, seconds=seconds)
        if form.machine:
            speech.print_json({"write_id": write_id, "ended": ended, "seen": seen, "told": told})
        else:
            speech.console(width_max=speech.PROSE_WIDTH_MAX).print(told, markup=False)
        if entry is not None:
            speech.say_command(desk.told(f"reliable-write writes explain {write_id}"))
    return ExitCode.DONE if ended in ("finished", "no entry") else ExitCode.PARTLY


def _check_known(desk: Desk, write_id: str) -> None:
    """An idempotency key has a receipt from its commit on; anything else that is no stamp is a slip of the hand."""
    if not is_stamp(write_id) and desk.engine.receipts.find(write_id, desk.deadline()) is None:
        raise CommandError(
            ExitCode.USAGE,
            f"{write_id[:64]!r} is no write id: those have 36 characters, 0-9 and a-f. Nor is it an idempotency key "
            "with a receipt.",
        )


def _await_absence(desk: Desk, write_id: str, seconds: float) -> tuple[Entry | None, bool]:
    """The entry if it outlasted us or is stuck, and whether it was ever seen."""
    time = desk.engine.time
    deadline = Deadline.after(seconds, time)
    entry: Entry | None = None
    while True:
        try:
            entry = desk.engine.journal.find(write_id, desk.deadline())
        except EntryNotFoundError:
            return None, entry is not None
        if is_stuck(entry) or deadline.remaining_seconds() <= 0:
            return entry, True
        time.sleep(min(WAIT_SECONDS, max(0.0, deadline.remaining_seconds())))


def _ending(desk: Desk, write_id: str, entry: Entry | None, *, seen: bool, seconds: float) -> tuple[str, str]:
    if entry is not None and is_stuck(entry):
        return "quarantined", f"It is quarantined and waits for a person: {entry.last_error or 'no reason is kept'}."
    if entry is not None:
        return "still pending", f"Still pending after {duration(seconds)}."
    discarded = next((deed for deed in desk.deeds_about(write_id) if deed.action == "discard"), None)
    if discarded is not None:
        return "discarded", f"{discarded.operator} discarded it: {discarded.reason}"
    if seen:
        return "finished", "Finished: its entry is gone, and no record says that somebody discarded it."
    return "no entry", _NEVER_SEEN


def list_deeds(
    at: At, form: Form, *, write_id: str | None, action: str | None, limit: int | None, reveal: bool
) -> ExitCode:
    """What people did, newest first."""
    with open_desk(at) as desk:
        everything = [deed_facts(deed, reveal=reveal) for deed in desk.engine.audit_log.deeds(desk.deadline())]
    found = [
        facts
        for facts in everything
        if (write_id is None or facts["write_id"] == write_id) and (action is None or facts["action"] == action)
    ]
    if form.lines:
        speech.print_jsonl(found[:limit] if limit else found)
    elif form.machine:
        speech.print_json({"records": len(found), "deeds": found[:limit] if limit else found})
    else:
        most = speech.LIST_ROWS if limit is None else limit
        render_deeds.show_deeds(found[:most] if most else found, len(found))
    return ExitCode.DONE


def doctor(at: At, form: Form, *, role: str, tables: Sequence[str]) -> ExitCode:
    """All checks, one by one."""
    connection = connect(**at._asdict())
    with contextlib.closing(connection.client):
        diagnosis = diagnose(connection, at, _role(role), list(tables))
    if form.machine:
        speech.print_json(diagnosis.facts())
    else:
        render_doctor.show_diagnosis(diagnosis)
    return diagnosis.exit_code


def _role(name: str) -> Role:
    for role in ROLES:
        if role == name:
            return role
    raise CommandError(ExitCode.USAGE, f"There is no role {name!r}; there are {', '.join(ROLES)}.")


# --- doing --------------------------------------------------------------------------------------------------------


def deed(at: At, form: Form, action: str, write_ids: Sequence[str], wanted: Wanted, manner: Manner) -> ExitCode:
    """Retry, quarantine or discard: writes by id, or all that match."""
    filters = wanted.filters()
    if bool(write_ids) == filters.any:
        raise CommandError(
            ExitCode.USAGE, "Name writes by id, or give filters (--state, --table, ...): one of the two."
        )
    with open_desk(at) as desk:
        selection = deeds.select_filtered(desk, action, filters) if filters.any else deeds.select_ids(desk, write_ids)
        plan = _plan(desk, action, selection, manner)
        return _carry(desk, form, plan, selection, manner)


def skip(at: At, form: Form, write_id: str, operations: Sequence[str], manner: Manner) -> ExitCode:
    """Give up single operations of one write."""
    if not operations:
        raise CommandError(ExitCode.USAGE, "Say which with --op N, as `writes show` numbers them. Nothing was changed.")
    with open_desk(at) as desk:
        write, places = deeds.places_of(desk, write_id, operations)
        selection = Selection((write,))
        plan = _plan(desk, "skip", selection, manner, places)
        return _carry(desk, form, plan, selection, manner)


def apply(at: At, form: Form, path: str, manner: Manner) -> ExitCode:
    """What was reviewed in a plan file, and nothing else."""
    with open_desk(at) as desk:
        plan = read_plan(path, desk.place())
        return _carry(desk, form, plan, Selection(plan.writes), manner, reviewed_in=path)


def _plan(desk: Desk, action: str, selection: Selection, manner: Manner, places: tuple[str, ...] = ()) -> Plan:
    return Plan(
        action=action,
        reason=manner.reason.strip(),
        place=desk.place(),
        writes=selection.writes,
        operations=places,
        attempt_now=manner.now,
        made_by=person.operator_name(),
        made_at_milliseconds=desk.now_milliseconds(),
    )


def _carry(
    desk: Desk, form: Form, plan: Plan, selection: Selection, manner: Manner, reviewed_in: str | None = None
) -> ExitCode:
    if manner.dry_run or manner.plan_out is not None:
        return _only_plan(desk, form, plan, selection, manner)
    if not plan.writes:
        return _nothing(desk, form, plan, selection)
    render_deeds.preview(desk, plan, selection)
    if reviewed_in is not None:
        age = duration((desk.now_milliseconds() - plan.made_at_milliseconds) / 1000)
        speech.say(f"  planned {age} ago by {plan.made_by}: {plan.reason}")
    plan = _with_reason(plan, manner)
    if not manner.yes:
        _ask(plan)
    with render_deeds.DeedScreen(plan, lines=form.lines, silent=form.machine) as screen:
        try:
            with stopped_by_ctrl_c(screen.stopping) as stop:
                outcome, rest = deeds.act(desk, plan, manner.rate, stop, screen)
        except KeyboardInterrupt:
            screen.ended_at_once(desk)
            raise
    if not form.machine:
        render_deeds.show_outcome(outcome)
    elif not form.lines:
        speech.print_json(deeds.outcome_facts(outcome, rest))
    render_deeds.say_rest(desk, outcome, rest)
    if not form.machine:
        render_deeds.say_next(desk, outcome, desk.monitors_alive())
    return outcome.exit_code


def _ask(plan: Plan) -> None:
    what = "it" if len(plan.writes) == 1 else f"these {len(plan.writes):,}"
    if plan.action == "discard" and len(plan.writes) > 1:
        person.confirm_count(f"Discard {what} for good?", len(plan.writes))
    else:
        person.confirm(f"{plan.action.capitalize()} {what if plan.action != 'skip' else 'this'}?")


def _with_reason(plan: Plan, manner: Manner) -> Plan:
    return plan if plan.reason else replace(plan, reason=person.asked_reason(manner.reason))


def _nothing(desk: Desk, form: Form, plan: Plan, selection: Selection) -> ExitCode:
    if form.machine and not form.lines:
        speech.print_json(deeds.plan_facts(plan, selection, written_to=None))
    speech.say(f"No write matches; nothing to {plan.action}.")
    render.say_incomplete(desk, selection)
    return ExitCode.PARTLY if selection.unread_shards else ExitCode.DONE


def _only_plan(desk: Desk, form: Form, plan: Plan, selection: Selection, manner: Manner) -> ExitCode:
    """Look, or look and write down; in both cases nothing is changed."""
    if not plan.writes:
        return _nothing(desk, form, plan, selection)
    render_deeds.preview(desk, plan, selection)
    command = None
    if manner.plan_out is not None and not manner.dry_run:
        plan = deeds.keep_plan(manner.plan_out, _with_reason(plan, manner))
        command = desk.told(f"reliable-write writes apply {manner.plan_out}")
    written = manner.plan_out if command else None
    if form.lines:
        speech.print_jsonl(deeds.plan_facts(plan, selection, written_to=written)["writes"])
    elif form.machine:
        speech.print_json(deeds.plan_facts(plan, selection, written_to=written))
    else:
        render_deeds.show_plan(plan, written_to=written, command=command)
    return ExitCode.PARTLY if selection.unread_shards else ExitCode.DONE
