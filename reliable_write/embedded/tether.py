"""Run a command that cannot outlive the process holding the other end of our standard input.

Started by path (`python -I -S tether.py directory command ...`), never imported, so that it costs 20 ms and needs only
the standard library. A pipe is the tether because the kernel closes it however its holder dies, SIGKILL
included. A death signal on the engine would not do on its own: Linux sends it when the *thread* that started
the child ends. Here it only covers the case that this very process is killed, whose main thread starts the
child.

The first line on standard output is the command's own process id; its output goes to our standard error. A byte
on standard input says that the parent will end things in order; without one, the end of input means that it died,
and the directory, which nobody knows any more, is removed.
"""

import ctypes
import os
import shutil
import signal
import subprocess
import sys
import threading

_PR_SET_PDEATHSIG = 1


def _die_with_the_tether() -> None:
    ctypes.CDLL(None, use_errno=True).prctl(_PR_SET_PDEATHSIG, signal.SIGKILL)


def _leave_it_to_the_parent(_number: int, _frame: object) -> None:
    """Do nothing. SIG_IGN would be inherited by the command, which then could not be asked to end."""


def _kill_at_end_of_input(command: "subprocess.Popen[bytes]", orphaned: threading.Event) -> None:
    in_order = False
    while os.read(0, 1024):
        in_order = True
    if not in_order:
        orphaned.set()
    command.kill()


def main(directory: str, argv: list[str]) -> int:
    """Start the command, tell its id, wait for its end or for ours; return its exit code."""
    for number in (signal.SIGINT, signal.SIGTERM):  # Ctrl-C in a terminal reaches us too
        signal.signal(number, _leave_it_to_the_parent)
    command = subprocess.Popen(  # noqa: S603 - the caller's command is the whole purpose
        argv,
        stdin=subprocess.DEVNULL,
        stdout=sys.stderr.fileno(),
        # This process has one thread here, so the hook between fork and exec is safe.
        preexec_fn=_die_with_the_tether if sys.platform == "linux" else None,  # noqa: PLW1509
        start_new_session=True,
    )
    os.write(1, b"%d\n" % command.pid)
    orphaned = threading.Event()
    threading.Thread(target=_kill_at_end_of_input, args=(command, orphaned), daemon=True).start()
    code = command.wait()
    if orphaned.is_set():
        shutil.rmtree(directory, ignore_errors=True)
    return code


if __name__ == "__main__":
    sys.exit(main(sys.argv[1], sys.argv[2:]))
