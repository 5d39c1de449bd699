"""Routes that scripts of the page talk JSON to: one guard against other sites, one set of refusals.

A refused request answers {"error": why}: 403 from another site, or for another visitor's eyes; 404 not there; 409
refused by the store or the jobs ("changed": by what happened since); 413 too large; 415 and 422 not as asked;
503 the data file is locked, full or damaged.
"""

from __future__ import annotations

import json
import logging
from collections.abc import Callable
from typing import Annotated, Any

from pydantic import AfterValidator, Field, ValidationError
from starlette.concurrency import run_in_threadpool
from starlette.requests import Request
from starlette.responses import JSONResponse, Response
from starlette.routing import Route

from studio.hosting import guard
from studio.hosting.door import viewer_in
from studio.jobs import JobError
from studio.store import DETECTOR, FileFailure, NotFoundError, PairChangedError, StoreError

LARGEST_BODY = 1 << 20
log = logging.getLogger(__name__)


def _a_persons(name: str) -> str:
    if not name.isprintable():
        raise ValueError("it holds characters that are not shown, by which it could look like another name")
    if name.strip().lower() == DETECTOR:
        raise ValueError(f"{DETECTOR!r} is the detector's own name; choose another")
    return name.strip()


Name = Annotated[str, Field(min_length=1, max_length=60), AfterValidator(_a_persons)]  # of who decides
RowId = Annotated[str, Field(pattern=r"^[0-9a-f]{12,32}$")]  # made by the browser, so that it can tell a thing twice


class ForbiddenError(PermissionError):
    """What this visitor may not see or do; says who may."""

    care = ""  # "notice" or "ended": see studio.ui.care_gate


def json_get(path: str, answer: Callable[[Request], dict[str, Any]]) -> Route:
    """A question; what `answer` raises becomes a refusal."""

    def endpoint(request: Request) -> Response:
        return _answered(lambda: answer(request))

    return Route(path, endpoint, methods=["GET"])


def json_post(
    path: str,
    answer: Callable[[Request, bytes], dict[str, Any]],
    largest: int = LARGEST_BODY,
    *,
    names_another: bool = False,
) -> Route:
    """A change; `answer` gets the body, of at most `largest` bytes, in a thread of its own.

    Whoever signed in is the body's `reviewer`, whatever it says, unless that `names_another`.
    """

    async def endpoint(request: Request) -> Response:
        if why := from_elsewhere(request):
            return _refused(403, why)
        if request.headers.get("content-type", "").split(";")[0].strip().lower() != "application/json":
            return _refused(415, "Send JSON, with the content type application/json.")
        body = await request.body()
        if len(body) > largest:
            return _refused(413, f"The request has {len(body):,} bytes; {largest:,} are the most.")
        viewer = viewer_in(request.scope)
        if viewer is not None and viewer.signed_in and not names_another:
            body = under_own_name(body, viewer.name)
        return await run_in_threadpool(_answered, lambda: answer(request, body))

    return Route(path, endpoint, methods=["POST"])


def from_elsewhere(request: Request) -> str:
    """Why a change that another site's page asks for is refused; see `studio.hosting.guard`."""
    return guard.from_elsewhere(request.headers)


def under_own_name(body: bytes, name: str) -> bytes:
    """A JSON object whose `reviewer`, where it has one, is the one who signed in."""
    try:
        told = json.loads(body)
    except (ValueError, RecursionError):
        return body  # the route says what is wrong with it
    if not isinstance(told, dict) or "reviewer" not in told:
        return body
    return json.dumps({**told, "reviewer": name}).encode()


def _answered(answer: Callable[[], dict[str, Any]]) -> Response:
    try:
        return JSONResponse(answer(), headers={"Cache-Control": "no-store"})
    except ValidationError as error:
        return _refused(422, "; ".join(f"{'.'.join(map(str, e['loc']))}: {e['msg']}" for e in error.errors()))
    except ForbiddenError as error:
        return _refused(403, str(error), **({"care": error.care} if error.care else {}))
    except NotFoundError as error:
        return _refused(404, str(error))
    except (StoreError, JobError) as error:
        return _refused(409, str(error), changed=isinstance(error, PairChangedError))
    except FileFailure as error:
        log.error("The database did not take a request: %s", error)
        return _refused(503, f"The data file does not answer ({error}). Nothing was kept; try again in a moment.")


def _refused(status: int, why: str, **more: Any) -> Response:
    return JSONResponse({"error": why, **more}, status_code=status, headers={"Cache-Control": "no-store"})
