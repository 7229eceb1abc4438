"""The commands about an installation as a whole: status, doctor, audit, iam. Parsing only, as in `writes`."""

import sys
from typing import Annotated

import typer

from reliable_write.cli.exits import reported
from reliable_write.cli.options import (
    AsJson,
    AsLines,
    At,
    Debug,
    EndpointUrl,
    Form,
    Profile,
    Region,
    RoleChoice,
    SystemTable,
)

audit = typer.Typer(help="What people did to writes and items.", no_args_is_help=True, rich_markup_mode=None)
iam = typer.Typer(help="What each role may do.", no_args_is_help=True, rich_markup_mode=None)


def status(
    *,
    exit_code: Annotated[bool, typer.Option("--exit-code", help="Exit with 1 if anything is stuck.")] = False,
    overdue_after: Annotated[
        str | None, typer.Option(metavar="SPAN", help="Age at which a pending write counts as stuck; 40s.")
    ] = None,
    profile: Profile = None,
    region: Region = None,
    endpoint_url: EndpointUrl = None,
    system_table: SystemTable = None,
    as_json: AsJson = False,
    debug: Debug = False,
) -> None:
    """Tell in one look whether anything is stuck."""
    with reported(as_json=as_json, debug=debug):
        from reliable_write.cli import errands

        at = At(profile, region, endpoint_url, system_table)
        sys.exit(errands.status(at, Form(as_json), overdue_after=overdue_after, exit_code=exit_code))


def doctor(
    *,
    role: Annotated[
        RoleChoice, typer.Option(help="Whose permissions to try: those of `iam policy --role`.")
    ] = RoleChoice.ADMIN_ACT,
    table: Annotated[
        list[str] | None, typer.Option(metavar="NAME", help="Also try this table that writes go to; repeatable.")
    ] = None,
    profile: Profile = None,
    region: Region = None,
    endpoint_url: EndpointUrl = None,
    system_table: SystemTable = None,
    as_json: AsJson = False,
    debug: Debug = False,
) -> None:
    """Check all that can be wrong; the verdict comes last.

    Nothing is changed. Who you are, the clock, the system table's shape, each permission by a call that cannot do
    anything, monitors, and what is stuck. Exit code 1 if something wants attention, 3 if something is not in order.
    """
    with reported(as_json=as_json, debug=debug):
        from reliable_write.cli import errands

        at = At(profile, region, endpoint_url, system_table)
        sys.exit(errands.doctor(at, Form(as_json), role=role.value, tables=table or []))


@audit.command("list")
def list_deeds(
    *,
    write: Annotated[str | None, typer.Option(metavar="ID", help="Only about this write.")] = None,
    action: Annotated[
        str | None, typer.Option(metavar="NAME", help="retry, skip, quarantine, discard, repair-stamp or release-lock.")
    ] = None,
    limit: Annotated[
        int | None, typer.Option(min=0, metavar="N", help="Records; 0 for all. 50 where not given, all with --json.")
    ] = None,
    reveal: Annotated[bool, typer.Option("--reveal", help="Also keys, and what was taken off items.")] = False,
    profile: Profile = None,
    region: Region = None,
    endpoint_url: EndpointUrl = None,
    system_table: SystemTable = None,
    as_json: AsJson = False,
    as_jsonl: AsLines = False,
    debug: Debug = False,
) -> None:
    """List what people did, newest first.

    Who, what, to which write, why; kept for a year. A record is written before its deed. One whose deed met a lost
    answer stays, also where it was not done.
    """
    with reported(as_json=as_json or as_jsonl, debug=debug):
        from reliable_write.cli import errands

        at, form = At(profile, region, endpoint_url, system_table), Form(as_json, as_jsonl)
        sys.exit(errands.list_deeds(at, form, write_id=write, action=action, limit=limit, reveal=reveal))


@iam.command()
def policy(
    *,
    role: Annotated[RoleChoice, typer.Option(help="Who it is for.")],
    table: Annotated[
        list[str] | None, typer.Option(metavar="NAME|ARN", help="A table that writes go to; repeatable.")
    ] = None,
    account: Annotated[
        str | None, typer.Option(metavar="ID", help="Your account: then nothing is asked of AWS.")
    ] = None,
    profile: Profile = None,
    region: Region = None,
    endpoint_url: EndpointUrl = None,
    system_table: SystemTable = None,
    debug: Debug = False,
) -> None:
    """Print a role's IAM policy as JSON.

    Names become ARNs: with --account and --region by themselves, else by asking DescribeTable. Without --table it is
    about all tables of the account and Region.
    """
    with reported(as_json=False, debug=debug):
        from reliable_write.cli import policies

        at = At(profile, region, endpoint_url, system_table)
        sys.exit(policies.show(at, role.value, table or [], account))
