"""The commands and their options. Each imports its work when it runs, so that `--help` answers at once."""

import sys
from typing import Annotated

import typer

from reliable_write.cli.exits import MEANINGS, ExitCode, reported
from reliable_write.cli.locks import locks
from reliable_write.cli.options import AsJson, Debug, EndpointUrl, OrderChoice, Profile, Region, SystemTable
from reliable_write.cli.overseeing import audit, doctor, iam, status
from reliable_write.cli.upload import upload
from reliable_write.cli.usage import InertGroup
from reliable_write.cli.writes import writes

# \b keeps click from joining the lines of a paragraph.
EPILOG = (
    "\b\nExit codes:\n"
    + "\n".join(f"  {code.value}  {meaning}" for code, meaning in MEANINGS.items())
    + "\n\nData goes to stdout, everything else to stderr. Settings come from RELIABLE_WRITE_* and, for AWS, from "
    "boto3's own chain; options come first. NO_COLOR is respected."
)

app = typer.Typer(
    cls=InertGroup,
    help="Write several DynamoDB items in several tables, and never end up with half of them.",
    epilog=EPILOG,
    no_args_is_help=True,
    add_completion=False,
    rich_markup_mode=None,  # Rich would cost --help a fifth of a second
    pretty_exceptions_enable=False,
    context_settings={"help_option_names": ["-h", "--help"]},
)


app.command(epilog=EPILOG)(status)
app.add_typer(writes, name="writes", epilog=EPILOG)
app.add_typer(locks, name="locks", epilog=EPILOG)
app.command(epilog=EPILOG)(doctor)
app.add_typer(audit, name="audit", epilog=EPILOG)
app.add_typer(iam, name="iam", epilog=EPILOG)
app.command(epilog=EPILOG)(upload)


def _version(wanted: bool) -> None:
    if wanted:
        from reliable_write import __version__

        typer.echo(f"reliable-write {__version__}")
        raise typer.Exit


@app.callback(epilog=EPILOG)
def _common(
    *,
    version: Annotated[
        bool, typer.Option("--version", callback=_version, is_eager=True, help="Show the version and exit.")
    ] = False,
) -> None:
    pass


@app.command(epilog=EPILOG)
def init(
    *,
    order: Annotated[
        OrderChoice | None,
        typer.Option(help="How writes are ordered: by what is there (strict), or by synchronised clocks."),
    ] = None,
    shards: Annotated[
        int | None, typer.Option(min=1, max=1000, metavar="N", help="Partitions of the journal; 64 where not given.")
    ] = None,
    stamp_attribute: Annotated[
        str | None, typer.Option(metavar="NAME", help="Attribute that carries a put's stamp; _rw where not given.")
    ] = None,
    update_stamp_attribute: Annotated[
        str | None, typer.Option(metavar="NAME", help="The same for updates; _rwu where not given.")
    ] = None,
    check: Annotated[bool, typer.Option("--check", help="Only look; change nothing.")] = False,
    profile: Profile = None,
    region: Region = None,
    endpoint_url: EndpointUrl = None,
    system_table: SystemTable = None,
    as_json: AsJson = False,
    debug: Debug = False,
) -> None:
    """Make the system table, or check the one that is there.

    May be run again at any time: what is there is kept. The four options about order, shards and stamps are fixed for
    an installation when it is made.
    """
    with reported(as_json=as_json, debug=debug):
        from reliable_write.cli import render
        from reliable_write.cli.connect import connect
        from reliable_write.cli.installation import Wishes, inspect, install

        wishes = Wishes(order.value if order else None, shards, stamp_attribute, update_stamp_attribute)
        connection = connect(profile=profile, region=region, endpoint_url=endpoint_url, system_table=system_table)
        report = inspect(connection, wishes) if check else install(connection, wishes)
        render.show_installation(report, as_json=as_json)
        sys.exit(report.exit_code)


@app.command("repair-stamp", epilog=EPILOG)
def repair_stamp(
    *,
    table: Annotated[str, typer.Argument(metavar="TABLE", help="The table of the item.")],
    key: Annotated[
        str, typer.Option(metavar="JSON", help="""The item's key, as {"id": "x", "line": 1}; binary as base64.""")
    ],
    reason: Annotated[str, typer.Option(metavar="TEXT", help="Why; kept in the record of what operators did.")] = "",
    dry_run: Annotated[bool, typer.Option("--dry-run", help="Only tell what would be done.")] = False,
    yes: Annotated[bool, typer.Option("--yes", "-y", help="Do not ask.")] = False,
    profile: Profile = None,
    region: Region = None,
    endpoint_url: EndpointUrl = None,
    system_table: SystemTable = None,
    as_json: AsJson = False,
    debug: Debug = False,
) -> None:
    """Take a stamp that this library did not write off one item.

    Such a stamp (of another type or shape, or more than a day ahead of the clock) keeps every reliable write away from
    the item. Nothing else of the item is changed or shown, and a stamp that is in order is left alone.
    """
    with reported(as_json=as_json, debug=debug):
        from reliable_write.cli import render
        from reliable_write.cli.connect import connect
        from reliable_write.cli.person import confirm
        from reliable_write.cli.repair import Repair, find_foreign_stamps

        connection = connect(profile=profile, region=region, endpoint_url=endpoint_url, system_table=system_table)
        found = find_foreign_stamps(connection, table, key)
        if dry_run:
            render.show_repair(found, done=False, as_json=as_json)
            return
        render.show_foreign_stamps(found)
        if not yes:
            confirm("Take it off?")
        Repair(connection).take_off(found, reason)
        render.show_repair(found, done=True, as_json=as_json)


@app.command(epilog=EPILOG)
def demo(
    *,
    orders: Annotated[int, typer.Option(min=1, max=2000, metavar="N", help="Orders the service is to write.")] = 24,
    keep: Annotated[bool, typer.Option("--keep", help="Let the engine run afterwards, until Ctrl-C.")] = False,
    as_json: AsJson = False,
    debug: Debug = False,
) -> None:
    """Kill a service half way through a write, and see the write finished.

    On an engine of its own, on loopback, gone afterwards: needs no account and touches nothing of yours. A process
    writes orders, each one scope over four tables, and is ended by SIGKILL in the middle of one. What is left is shown,
    finished from the journal, and every item of every table is checked. Exit code 1 if any check fails.
    """
    with reported(as_json=as_json, debug=debug):
        from reliable_write.cli import render
        from reliable_write.cli.demo import Demo

        with render.DemoScreen(silent=as_json) as screen, Demo(orders, screen) as running:
            facts = running.run()
            render.show_demo(facts, screen, as_json=as_json)
            if keep:
                screen.keeping(running.endpoint_url)
                running.wait_for_interrupt()
        sys.exit(ExitCode.DONE if facts.ok else ExitCode.PARTLY)
