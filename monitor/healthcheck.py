"""Asks the monitor on this machine how it is; the standard library's HTTP client, so that it starts quickly."""

from __future__ import annotations

import http.client
import json
from dataclasses import dataclass
from typing import Final

from reliable_write.errors import ConfigurationError

_OK: Final = 200
_BYTES_MAX: Final = 10_000
_LOOPBACK_OF: Final = {"0.0.0.0": "127.0.0.1", "": "127.0.0.1", "::": "::1"}  # noqa: S104 - asked, not listened on


@dataclass(frozen=True, slots=True)
class Answer:
    """What the monitor said."""

    ok: bool
    told: str


def ask(host: str, port: int, probe: str, timeout_seconds: float) -> Answer:
    """One question over loopback, past any proxy. Raises `ConfigurationError` where no monitor can answer."""
    if port == 0:
        raise ConfigurationError("monitor.http_port is 0, so the monitor answers nobody and has no healthcheck.")
    connection = http.client.HTTPConnection(_LOOPBACK_OF.get(host, host), port, timeout=timeout_seconds)
    try:
        connection.request("GET", f"/{probe}", headers={"Connection": "close"})
        response = connection.getresponse()
        return _understood(response.status, response.read(_BYTES_MAX), probe)
    except (OSError, http.client.HTTPException) as error:
        return Answer(ok=False, told=f"no answer from {host} port {port}: {str(error) or type(error).__name__}")
    finally:
        connection.close()


def _understood(status: int, body: bytes, probe: str) -> Answer:
    """Only our own answer counts: another service on the port may say 200 to everything."""
    try:
        facts = json.loads(body)
        ok, reasons = facts["ok"] is True, [str(reason) for reason in facts["reasons"]]
    except (ValueError, KeyError, TypeError):
        return Answer(ok=False, told=f"something else answers there (HTTP {status})")
    if status == _OK and ok:
        return Answer(ok=True, told=f"{probe}: ok")
    return Answer(ok=False, told=f"{probe}: {'; '.join(reasons) or f'HTTP {status}'}")
