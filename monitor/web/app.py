"""`/livez`, `/readyz`, `/metrics`: answered from memory, so that none of them ever waits for DynamoDB."""

from __future__ import annotations

from starlette.applications import Starlette
from starlette.requests import Request
from starlette.responses import JSONResponse, Response
from starlette.routing import Route

from monitor.health import Health, Watched
from monitor.metrics import Metrics

_METRICS_TYPE = "text/plain; version=0.0.4; charset=utf-8"


def make_app(watched: Watched, metrics: Metrics) -> Starlette:
    """The application over one monitor."""

    async def livez(_request: Request) -> Response:
        return _told(watched.live())

    async def readyz(_request: Request) -> Response:
        return _told(watched.ready())

    async def show_metrics(_request: Request) -> Response:
        return Response(metrics.render(), media_type=_METRICS_TYPE)

    return Starlette(routes=[Route("/livez", livez), Route("/readyz", readyz), Route("/metrics", show_metrics)])


def _told(health: Health) -> Response:
    facts = {"ok": health.ok, "reasons": list(health.reasons)}
    return JSONResponse(facts, status_code=200 if health.ok else 503, headers={"Cache-Control": "no-store"})
