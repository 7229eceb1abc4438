"""The commands about locks. Parsing only: each imports its work when it runs, so that `--help` answers at once."""

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
    Form,
    Profile,
    Reason,
    Region,
    SystemTable,
    WatchSeconds,
    Yes,
)

locks = typer.Typer(
    help="Look at locks, and release one whose holder is known to be dead.",
    no_args_is_help=True,
    rich_markup_mode=None,
)

LockTable = Annotated[str, typer.Argument(metavar="TABLE", help="The table that holds the locks.")]
LockKey = Annotated[str, typer.Argument(metavar="KEY", help="The lock's key; binary as base64.")]
SortKey = Annotated[str | None, typer.Option(metavar="KEY", help="Its range key, where the table has one.")]
Reveal = Annotated[bool, typer.Option("--reveal", help="Also the data beside it.")]


@locks.command("list")
def list_locks(
    *,
    table: LockTable,
    everything: Annotated[bool, typer.Option("--all", help="Also those that nobody holds.")] = False,
    watch_seconds: WatchSeconds = 0.0,
    limit: Annotated[
        int | None, typer.Option(min=0, metavar="N", help="Rows; 0 for all. 50 where not given, all with --json.")
    ] = None,
    profile: Profile = None,
    region: Region = None,
    endpoint_url: EndpointUrl = None,
    system_table: SystemTable = None,
    as_json: AsJson = False,
    as_jsonl: AsLines = False,
    debug: Debug = False,
) -> None:
    """List the locks of a table.

    Reads the whole table. One look tells who holds a lock, not whether he lives: for that it takes a second one, by
    --watch-seconds, at best a whole lease later.
    """
    with reported(as_json=as_json or as_jsonl, debug=debug):
        from reliable_write.cli import lock_errands

        at, form = At(profile, region, endpoint_url, system_table), Form(as_json, as_jsonl)
        sys.exit(
            lock_errands.list_locks(at, form, table, everything=everything, watch_seconds=watch_seconds, limit=limit)
        )


@locks.command()
def show(
    *,
    table: LockTable,
    key: LockKey,
    sort_key: SortKey = None,
    watch_seconds: WatchSeconds = 0.0,
    reveal: Reveal = False,
    profile: Profile = None,
    region: Region = None,
    endpoint_url: EndpointUrl = None,
    system_table: SystemTable = None,
    as_json: AsJson = False,
    debug: Debug = False,
) -> None:
    """Show one lock: who holds it, since when, under which token.

    With --watch-seconds also whether its holder gives signs of life.
    """
    with reported(as_json=as_json, debug=debug):
        from reliable_write.cli import lock_errands

        at, place = At(profile, region, endpoint_url, system_table), (table, key, sort_key)
        sys.exit(lock_errands.show(at, Form(as_json), place, watch_seconds=watch_seconds, reveal=reveal))


@locks.command()
def release(
    *,
    table: LockTable,
    key: LockKey,
    sort_key: SortKey = None,
    watch_seconds: WatchSeconds = 0.0,
    reason: Reason = "",
    dry_run: DryRun = False,
    yes: Yes = False,
    profile: Profile = None,
    region: Region = None,
    endpoint_url: EndpointUrl = None,
    system_table: SystemTable = None,
    as_json: AsJson = False,
    debug: Debug = False,
) -> None:
    """Take a lock from its holder.

    Only if it is as it was seen: a holder who gives a sign of life in between keeps it, and the command says too late.
    One who lives is told that it lost the lock, and its guarded writes are refused; whatever else it does is not
    stopped.
    """
    with reported(as_json=as_json, debug=debug):
        from reliable_write.cli import lock_errands

        at, place = At(profile, region, endpoint_url, system_table), (table, key, sort_key)
        manner = lock_errands.Manner(reason, dry_run, yes)
        sys.exit(lock_errands.release(at, Form(as_json), place, manner, watch_seconds=watch_seconds))
