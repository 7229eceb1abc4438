"""The commands of `write-monitor` and their options. Each imports its work when it runs: `--help` answers at once."""

import contextlib
import json
import sys
from collections.abc import Iterator
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any, Literal

import typer

from monitor.exits import MEANINGS, ExitCode
from reliable_write.cli.usage import InertGroup

if TYPE_CHECKING:
    from monitor.settings import Configuration

EPILOG = (
    "Settings: a flag wins over RELIABLE_WRITE_* (RELIABLE_WRITE_MONITOR_POLL_SECONDS), that over the TOML file, that "
    "over the default; `write-monitor config show --origin` tells all of them and where each came from.\n\n"
    "\b\nExit codes:\n" + "\n".join(f"  {code.value:>3}  {meaning}" for code, meaning in MEANINGS.items())
)

app = typer.Typer(
    cls=InertGroup,
    help="Finish what crashed writers left behind. Without a command: run.",
    epilog=EPILOG,
    no_args_is_help=False,
    add_completion=False,
    rich_markup_mode=None,
    pretty_exceptions_enable=False,
    context_settings={"help_option_names": ["-h", "--help"]},
)
config = typer.Typer(help="The settings.", no_args_is_help=True, rich_markup_mode=None)
app.add_typer(config, name="config")

ConfigFile = Annotated[
    Path | None, typer.Option("--config", metavar="FILE", help="TOML settings [RELIABLE_WRITE_MONITOR_CONFIG].")
]
SystemTable = Annotated[str | None, typer.Option(metavar="NAME", help="Table of the journal.")]
Region = Annotated[str | None, typer.Option(metavar="NAME", help="AWS Region.")]
Profile = Annotated[str | None, typer.Option(metavar="NAME", help="Profile of the AWS configuration.")]
EndpointUrl = Annotated[str | None, typer.Option(metavar="URL", help="Another endpoint than AWS's.")]
PollSeconds = Annotated[float | None, typer.Option(metavar="S", help="From one look at the journal to the next.")]
DrainSeconds = Annotated[float | None, typer.Option(metavar="S", help="How long a stop waits; 25 where not given.")]
HttpHost = Annotated[str | None, typer.Option(metavar="HOST", help="Where /livez, /readyz and /metrics answer.")]
HttpPort = Annotated[int | None, typer.Option(metavar="PORT", help="The same; 0: nowhere.")]
LogFormat = Annotated[str | None, typer.Option(metavar="json|console", help="How log lines look.")]
LogLevel = Annotated[str | None, typer.Option(metavar="LEVEL", help="debug, info, warning or error.")]
More = Annotated[
    list[str] | None,
    typer.Option("--set", metavar="NAME=VALUE", help="Any other setting by its name in the file: monitor.workers=8."),
]


def _version(wanted: bool) -> None:
    if wanted:
        from reliable_write import __version__

        typer.echo(f"write-monitor {__version__}")
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
def run(
    *,
    once: Annotated[bool, typer.Option("--once", help="One sweep and one audit, their report on stdout.")] = False,
    fail_fast: Annotated[
        bool, typer.Option("--fail-fast", help="End where the system table is missing or cannot be read.")
    ] = False,
    config_file: ConfigFile = None,
    system_table: SystemTable = None,
    region: Region = None,
    profile: Profile = None,
    endpoint_url: EndpointUrl = None,
    poll_seconds: PollSeconds = None,
    drain_seconds: DrainSeconds = None,
    http_host: HttpHost = None,
    http_port: HttpPort = None,
    log_format: LogFormat = None,
    log_level: LogLevel = None,
    more: More = None,
) -> None:
    """Sweep the journal until SIGTERM or SIGINT, then drain; a second signal ends it at once.

    A monitor that finds no system table waits for `reliable-write init`, says so in its log and at /readyz, and starts
    working when it is there. Any number of monitors may run.
    """
    with reported():
        flags = {
            **_named("writer", system_table=system_table, region=region, profile=profile, endpoint_url=endpoint_url),
            **_named("monitor", poll_seconds=poll_seconds, drain_seconds=drain_seconds, http_host=http_host),
            **_named("monitor", http_port=http_port, log_format=log_format, log_level=log_level),
        }
        configuration = _load(config_file, flags, more)
        from monitor.logs import configure_logs

        configure_logs(configuration.monitor.log_format, configuration.monitor.log_level)
        sys.exit(_sweep_once(configuration) if once else _run(configuration, fail_fast=fail_fast))


@app.command(epilog=EPILOG)
def healthcheck(
    *,
    probe: Annotated[
        Literal["livez", "readyz"], typer.Option(help="Does it move (livez), or does it do its work (readyz)?")
    ] = "livez",
    timeout_seconds: Annotated[float, typer.Option(min=0.1, max=60, metavar="S", help="Wait no longer.")] = 3.0,
    config_file: ConfigFile = None,
    http_host: HttpHost = None,
    http_port: HttpPort = None,
    more: More = None,
) -> None:
    """Ask the monitor that runs on this machine with the same settings; exit 0 if it is healthy, else 1.

    For Docker's HEALTHCHECK. `livez` is for restarting what hangs; `readyz` also fails while DynamoDB is away.
    """
    with reported():
        from monitor.healthcheck import ask

        configuration = _load(config_file, _named("monitor", http_host=http_host, http_port=http_port), more)
        answer = ask(configuration.monitor.http_host, configuration.monitor.http_port, probe, timeout_seconds)
        sys.stdout.write(f"{answer.told}\n")
        sys.exit(ExitCode.DONE if answer.ok else ExitCode.PARTLY)


@config.command("show", epilog=EPILOG)
def show(
    *,
    origin: Annotated[bool, typer.Option("--origin", help="Also where each value came from.")] = False,
    as_json: Annotated[bool, typer.Option("--json", help="Facts for machines.")] = False,
    config_file: ConfigFile = None,
    more: More = None,
) -> None:
    """Show every setting as the daemon would use it."""
    with reported():
        configuration = _load(config_file, {}, more)
        rows = _rows(configuration)
        if as_json:
            facts = {name: {"value": value, "origin": source} if origin else value for name, value, source in rows}
            sys.stdout.write(json.dumps(facts, indent=2) + "\n")
            return
        for name, value, source in rows:
            told = f"{name} = {json.dumps(value)}"
            sys.stdout.write(f"{told:<56} {source}\n" if origin else f"{told}\n")


@contextlib.contextmanager
def reported() -> Iterator[None]:
    """One clear paragraph and an exit code for what a person can put right; defects keep their traceback."""
    from reliable_write.errors import ConfigurationError

    try:
        yield
    except ConfigurationError as error:
        sys.stderr.write(f"{error.message}\n")
        sys.exit(ExitCode.SERVICE if error.retryable else ExitCode.CONFIGURATION)


def _load(file: Path | None, flags: dict[str, object], more: list[str] | None) -> "Configuration":
    from monitor.settings import load

    return load({**flags, **_parsed(more or [])}, file=file)


def _named(section: str, **values: object) -> dict[str, object]:
    return {f"{section}.{name}": value for name, value in values.items()}


def _parsed(given: list[str]) -> dict[str, object]:
    pairs: dict[str, object] = {}
    for one in given:
        name, equals, value = one.partition("=")
        if not equals:
            raise typer.BadParameter(f"{one!r} is not NAME=VALUE, such as monitor.workers=8", param_hint="--set")
        pairs[name.strip()] = value
    return pairs


def _rows(configuration: "Configuration") -> list[tuple[str, Any, str]]:
    parts = {"monitor": configuration.monitor, "writer": configuration.writer}
    values = {
        f"{section}.{name}": value
        for section, part in parts.items()
        for name, value in part.model_dump(mode="json").items()
    }
    return [(name, value, _source(configuration, name)) for name, value in sorted(values.items())]


def _source(configuration: "Configuration", name: str) -> str:
    from monitor.settings import variable

    origin = configuration.origins[name]
    if origin == "environment":
        return f"environment {variable(name)}"
    return f"file {configuration.file}" if origin == "file" else origin


def _run(configuration: "Configuration", *, fail_fast: bool) -> ExitCode:
    from monitor.signals import StopSignals

    with StopSignals.installed() as signals:  # before the slow imports: process 1 loses signals it has no handler for
        from monitor.process import Daemon

        return Daemon(configuration, fail_fast=fail_fast).run(signals)


def _sweep_once(configuration: "Configuration") -> ExitCode:
    from monitor.process import sweep_once

    facts, code = sweep_once(configuration)
    sys.stdout.write(json.dumps(facts, sort_keys=True) + "\n")
    return code
