"""Where the console script starts: look for what the extra `cli` brings, then hand over to the commands."""

import importlib.util
import sys
from typing import NoReturn

from reliable_write.cli.exits import ExitCode

INSTALL_COMMAND = "pip install 'reliable-write[cli]'"
_NEEDED = ("typer", "rich")


def main() -> NoReturn:
    """Run the command line and exit with one of `ExitCode`."""
    missing = [name for name in _NEEDED if importlib.util.find_spec(name) is None]
    if missing:
        sys.stderr.write(f"The command line needs {' and '.join(missing)}. Run: {INSTALL_COMMAND}\n")
        sys.exit(ExitCode.CONFIGURATION)
    from reliable_write.cli.app import app

    app(prog_name="reliable-write")
    sys.exit(ExitCode.DONE)


if __name__ == "__main__":
    main()
