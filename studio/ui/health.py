"""How the server is, for machines.

GET /healthz    {"status": "ok"}, or 503 with what is wrong; nothing of any project
GET /metrics    for Prometheus, where DUO_STUDIO_METRICS is on
"""

from __future__ import annotations

import os
import shutil
import time
from collections import Counter

from starlette.requests import Request
from starlette.responses import JSONResponse, PlainTextResponse, Response
from starlette.routing import Route

from studio.hosting.metrics import Metrics
from studio.settings import Settings
from studio.store import Store

LEAST_FREE = 64 * 2**20  # bytes of disk, under which nothing new should be sent here
KEPT_SECONDS = 2.0  # an answer is given again for so long: strangers may ask


def health_routes(settings: Settings, store: Store, metrics: Metrics | None) -> list[Route]:
    """What launch() adds to Gradio's application."""
    kept: list[tuple[float, list[str]]] = []

    def healthz(request: Request) -> Response:
        now = time.monotonic()
        if not kept or now - kept[0][0] > KEPT_SECONDS:
            kept[:] = [(now, problems(settings, store))]
        wrong = kept[0][1]
        told = {"status": "failing", "problems": wrong} if wrong else {"status": "ok"}
        return JSONResponse(told, 503 if wrong else 200, headers={"Cache-Control": "no-store"})

    def numbers(request: Request) -> Response:
        if metrics is None:
            return PlainTextResponse("Metrics are off. Set DUO_STUDIO_METRICS=1.", 404)
        return Response(metrics.text(), media_type="text/plain; version=0.0.4; charset=utf-8")

    return [Route("/healthz", healthz, methods=["GET"]), Route("/metrics", numbers, methods=["GET"])]


def problems(settings: Settings, store: Store) -> list[str]:
    """What keeps the studio from working, in words that name no path."""
    found = []
    try:
        store.list_jobs(states=("running",))
    except Exception as error:
        found.append(f"the database does not answer ({type(error).__name__})")
    if not os.access(settings.data, os.W_OK):
        found.append("the data folder cannot be written")
    elif shutil.disk_usage(settings.data).free < LEAST_FREE:
        found.append("the disk is full")
    return found


def states(settings: Settings, store: Store) -> dict[str, float]:
    """The gauges of /metrics."""
    jobs = Counter(job.state for job in store.list_jobs())
    told: dict[str, float] = {f"jobs{{{state}}}": count for state, count in jobs.items()}
    told["projects"] = len(store.list_projects())
    told["disk_free_bytes"] = shutil.disk_usage(settings.data).free
    return told
