"""The commands about writes. Parsing only: each imports its work when it runs, so that `--help` answers at once."""

import sys
from typing import Annotated

import typer

from reliable_write.cli.exits import reported
from reliable_write.cli.options import (
    AsJson,
    AsLines,
    At,
    Debug,
    DryRun,
    EndpointUrl,
    ErrorText,
    Form,
    OlderThan,
    PlanOut,
    Profile,
    Rate,
    Reason,
    Region,
    States,
    SystemTable,
    Table,
    WriteId,
    WriteIds,
    Yes,
)

writes = typer.Typer(
    help="Look at writes that are not finished, and decide about those that are stuck.",
    no_args_is_help=True,
    rich_markup_mode=None,
)


@writes.command("list")
def list_writes(
    *,
    state: States = None,
    table: Table = None,
    older_than: OlderThan = None,
    error: ErrorText = None,
    limit: Annotated[
        int | None, typer.Option(min=0, metavar="N", help="Rows; 0 for all. 50 where not given, all with --json.")
    ] = None,
    watch: Annotated[bool, typer.Option("--watch", help="Draw it again every 2 s, until Ctrl-C.")] = False,
    profile: Profile = None,
    region: Region = None,
    endpoint_url: EndpointUrl = None,
    system_table: SystemTable = None,
    as_json: AsJson = False,
    as_jsonl: AsLines = False,
    debug: Debug = False,
) -> None:
    """List what is not finished, oldest first."""
    with reported(as_json=as_json or as_jsonl, debug=debug):
        from reliable_write.cli import errands

        at, form = At(profile, region, endpoint_url, system_table), Form(as_json, as_jsonl)
        wanted = errands.Wanted(tuple(state or ()), table, older_than, error)
        sys.exit(errands.list_writes(at, form, wanted, limit=limit, watch=watch))


@writes.command()
def show(
    *,
    write_id: WriteId,
    reveal: Annotated[
        bool, typer.Option("--reveal", help="Show keys and values, of the journal and the table.")
    ] = False,
    everything: Annotated[bool, typer.Option("--all", help="All operations, also where they are many.")] = False,
    profile: Profile = None,
    region: Region = None,
    endpoint_url: EndpointUrl = None,
    system_table: SystemTable = None,
    as_json: AsJson = False,
    debug: Debug = False,
) -> None:
    """Compare one write with its tables, operation by operation."""
    with reported(as_json=as_json, debug=debug):
        from reliable_write.cli import errands

        at = At(profile, region, endpoint_url, system_table)
        sys.exit(errands.show(at, Form(as_json), write_id, reveal=reveal, everything=everything))


@writes.command()
def explain(
    *,
    write_id: WriteId,
    profile: Profile = None,
    region: Region = None,
    endpoint_url: EndpointUrl = None,
    system_table: SystemTable = None,
    as_json: AsJson = False,
    debug: Debug = False,
) -> None:
    """Tell in plain sentences what is up, and what to run."""
    with reported(as_json=as_json, debug=debug):
        from reliable_write.cli import errands

        at = At(profile, region, endpoint_url, system_table)
        sys.exit(errands.explain_write(at, Form(as_json), write_id))


@writes.command()
def retry(
    *,
    write_ids: WriteIds = None,
    now: Annotated[
        bool, typer.Option("--now", help="Also try it from here, with your permissions to write to its tables.")
    ] = False,
    state: States = None,
    table: Table = None,
    older_than: OlderThan = None,
    error: ErrorText = None,
    reason: Reason = "",
    dry_run: DryRun = False,
    yes: Yes = False,
    rate: Rate = None,
    plan_out: PlanOut = None,
    profile: Profile = None,
    region: Region = None,
    endpoint_url: EndpointUrl = None,
    system_table: SystemTable = None,
    as_json: AsJson = False,
    as_jsonl: AsLines = False,
    debug: Debug = False,
) -> None:
    """Make writes due at once, also quarantined ones.

    A monitor does the rest; --now makes the attempt from here instead. Same stamp, same operations: nothing can happen
    twice.
    """
    with reported(as_json=as_json or as_jsonl, debug=debug):
        from reliable_write.cli import errands

        at, form = At(profile, region, endpoint_url, system_table), Form(as_json, as_jsonl)
        wanted = errands.Wanted(tuple(state or ()), table, older_than, error)
        manner = errands.Manner(reason, dry_run, yes, rate, plan_out, now)
        sys.exit(errands.deed(at, form, "retry", write_ids or [], wanted, manner))


@writes.command()
def skip(
    *,
    write_id: WriteId,
    op: Annotated[
        list[str] | None,
        typer.Option("--op", metavar="N", help="3: operation 3; 3.4: item 4 of it; or the place as shown. Repeatable."),
    ] = None,
    reason: Reason = "",
    dry_run: DryRun = False,
    yes: Yes = False,
    plan_out: PlanOut = None,
    profile: Profile = None,
    region: Region = None,
    endpoint_url: EndpointUrl = None,
    system_table: SystemTable = None,
    as_json: AsJson = False,
    debug: Debug = False,
) -> None:
    """Give up single operations; the others go on.

    For good: what is skipped is never written. A quarantined write is retried afterwards, so that the rest is done.
    """
    with reported(as_json=as_json, debug=debug):
        from reliable_write.cli import errands

        at = At(profile, region, endpoint_url, system_table)
        manner = errands.Manner(reason, dry_run, yes, None, plan_out)
        sys.exit(errands.skip(at, Form(as_json), write_id, op or [], manner))


@writes.command()
def quarantine(
    *,
    write_ids: WriteIds = None,
    state: States = None,
    table: Table = None,
    older_than: OlderThan = None,
    error: ErrorText = None,
    reason: Reason = "",
    dry_run: DryRun = False,
    yes: Yes = False,
    rate: Rate = None,
    plan_out: PlanOut = None,
    profile: Profile = None,
    region: Region = None,
    endpoint_url: EndpointUrl = None,
    system_table: SystemTable = None,
    as_json: AsJson = False,
    as_jsonl: AsLines = False,
    debug: Debug = False,
) -> None:
    """Set writes aside until somebody retries them.

    No monitor tries them any more; nothing of them is lost.
    """
    with reported(as_json=as_json or as_jsonl, debug=debug):
        from reliable_write.cli import errands

        at, form = At(profile, region, endpoint_url, system_table), Form(as_json, as_jsonl)
        wanted = errands.Wanted(tuple(state or ()), table, older_than, error)
        manner = errands.Manner(reason, dry_run, yes, rate, plan_out)
        sys.exit(errands.deed(at, form, "quarantine", write_ids or [], wanted, manner))


@writes.command()
def discard(
    *,
    write_ids: WriteIds = None,
    state: States = None,
    table: Table = None,
    older_than: OlderThan = None,
    error: ErrorText = None,
    reason: Reason = "",
    dry_run: DryRun = False,
    yes: Yes = False,
    rate: Rate = None,
    plan_out: PlanOut = None,
    profile: Profile = None,
    region: Region = None,
    endpoint_url: EndpointUrl = None,
    system_table: SystemTable = None,
    as_json: AsJson = False,
    as_jsonl: AsLines = False,
    debug: Debug = False,
) -> None:
    """Stop trying, for good; this is no undo.

    What was applied stays; the rest is never written. The audit record says who decided it, and why.
    """
    with reported(as_json=as_json or as_jsonl, debug=debug):
        from reliable_write.cli import errands

        at, form = At(profile, region, endpoint_url, system_table), Form(as_json, as_jsonl)
        wanted = errands.Wanted(tuple(state or ()), table, older_than, error)
        manner = errands.Manner(reason, dry_run, yes, rate, plan_out)
        sys.exit(errands.deed(at, form, "discard", write_ids or [], wanted, manner))


@writes.command()
def apply(
    *,
    file: Annotated[str, typer.Argument(metavar="FILE", help="A plan, as --plan-out writes it.")],
    dry_run: DryRun = False,
    yes: Yes = False,
    rate: Rate = None,
    profile: Profile = None,
    region: Region = None,
    endpoint_url: EndpointUrl = None,
    system_table: SystemTable = None,
    as_json: AsJson = False,
    as_jsonl: AsLines = False,
    debug: Debug = False,
) -> None:
    """Carry out a reviewed plan file.

    Only on writes that have not moved since the plan was made; the others are told as too late and left alone.
    """
    with reported(as_json=as_json or as_jsonl, debug=debug):
        from reliable_write.cli import errands

        at, form = At(profile, region, endpoint_url, system_table), Form(as_json, as_jsonl)
        sys.exit(errands.apply(at, form, file, errands.Manner("", dry_run, yes, rate)))


@writes.command()
def wait(
    *,
    write_id: WriteId,
    timeout: Annotated[str, typer.Option(metavar="SPAN", help="How long: 90s, 10m, 2h.")] = "60s",
    profile: Profile = None,
    region: Region = None,
    endpoint_url: EndpointUrl = None,
    system_table: SystemTable = None,
    as_json: AsJson = False,
    debug: Debug = False,
) -> None:
    """Wait until a write has no entry any more.

    Exit code 1 if it is quarantined, discarded, or still there by then. No entry means finished, or never committed:
    the journal cannot tell which, and the command says what it saw.
    """
    with reported(as_json=as_json, debug=debug):
        from reliable_write.cli import errands

        at = At(profile, region, endpoint_url, system_table)
        sys.exit(errands.wait(at, Form(as_json), write_id, timeout=timeout))
