"""Where the console script and `python -m monitor` start: look for what the extra brings, then hand over."""

import importlib.util
import sys
from typing import NoReturn

from monitor.exits import ExitCode

INSTALL_COMMAND = "pip install 'reliable-write[monitor]'"
_NEEDED = ("typer", "starlette", "uvicorn", "prometheus_client")
_NOT_RUN = ("-h", "--help", "--version")


def main() -> NoReturn:
    """Run the command line and exit with one of `ExitCode`; without a command it is `run`."""
    missing = [name for name in _NEEDED if importlib.util.find_spec(name) is None]
    if missing:
        sys.stderr.write(f"The monitor needs {', '.join(missing)}. Run: {INSTALL_COMMAND}\n")
        sys.exit(ExitCode.CONFIGURATION)
    from monitor.cli import app  # noqa: PLC0415 - only now is it known to be there

    app(args=with_default_command(sys.argv[1:]), prog_name="write-monitor")
    sys.exit(ExitCode.DONE)


def with_default_command(arguments: list[str]) -> list[str]:
    """`write-monitor --once` is `write-monitor run --once`."""
    if not arguments or (arguments[0].startswith("-") and arguments[0] not in _NOT_RUN):
        return ["run", *arguments]
    return arguments


if __name__ == "__main__":
    main()
