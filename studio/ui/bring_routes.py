"""What the drop zone of "Bring your own pairs" asks: files up, what they are, and the list of what was not taken.

    POST /studio/bring/<project>/begin              an empty upload: {"upload": id}
    PUT  /studio/bring/<project>/<upload>/file      one file, as it is: ?name= with its folders
    POST /studio/bring/<project>/<upload>/look      what the files are, before any picture is opened
    POST /studio/bring/<project>/<upload>/drop      they are not wanted after all
    GET  /studio/bring/<project>/<job>.csv          each file that a job did not take, with the reason

Gradio's own upload would put the files where every visitor can read them. These go straight into the data folder.
"""

from __future__ import annotations

from pathlib import Path
from typing import IO, Any

from starlette.concurrency import run_in_threadpool
from starlette.requests import Request
from starlette.responses import JSONResponse, PlainTextResponse, Response
from starlette.routing import Route

from studio.csv_files import csv_text
from studio.exchange.layouts import Survey, Wanted, survey
from studio.exchange.sources import SourceError, open_source
from studio.exchange.uploads import begin_file, begin_upload, delete_upload, end_file, room_for, upload_folder
from studio.settings import Settings
from studio.store import NotFoundError, Store, StoreError
from studio.ui.json_routes import from_elsewhere, json_post

SHOWN = 8
SAME = Wanted(make_twins=True, unsafe_prompt="with it", safe_prompt="without it")  # as if both prompts were there


def bring_routes(settings: Settings, store: Store) -> list[Route]:
    """What launch() adds to Gradio's application."""

    def begin(request: Request, body: bytes) -> dict[str, Any]:
        store.get_project(request.path_params["project"])
        return {"upload": begin_upload(settings)}

    def look(request: Request, body: bytes) -> dict[str, Any]:
        try:
            with open_source(_folder(settings, request)) as source:
                return summary(survey(source, Wanted()), survey(source, SAME))
        except SourceError as error:
            raise StoreError(str(error)) from error

    def drop(request: Request, body: bytes) -> dict[str, Any]:
        return {"dropped": delete_upload(settings, settings.incoming / request.path_params["upload"])}

    async def file(request: Request) -> Response:
        if why := from_elsewhere(request):
            return _refused(403, why)
        name = request.query_params.get("name", "")
        try:
            folder = await run_in_threadpool(_folder, settings, request)
            size = int(request.headers.get("content-length") or 0)
            if why := await run_in_threadpool(room_for, folder, size):
                return _refused(413, why)
            path = await run_in_threadpool(begin_file, folder, name)
            if not await _received(request, path, size):
                path.unlink(missing_ok=True)
                return _refused(413, "More bytes came than were announced. Send the file again.")
            await run_in_threadpool(end_file, path, name)
        except (SourceError, StoreError, ValueError) as error:
            return _refused(409, str(error))
        return JSONResponse({"received": size}, headers={"Cache-Control": "no-store"})

    def refusals(request: Request) -> Response:
        try:
            job = store.get_job(request.path_params["name"].removesuffix(".csv"))
        except NotFoundError:
            return PlainTextResponse("There is no such job.", status_code=404)
        text = csv_text(("file", "reason"), store.brought_refusals(job.id))
        headers = {"Content-Disposition": 'attachment; filename="not-taken.csv"', "Cache-Control": "no-store"}
        return Response(text, media_type="text/csv; charset=utf-8", headers=headers)

    base = "/studio/bring/{project}"
    return [
        json_post(f"{base}/begin", begin),
        Route(f"{base}/{{upload}}/file", file, methods=["PUT"]),
        json_post(f"{base}/{{upload}}/look", look),
        json_post(f"{base}/{{upload}}/drop", drop),
        Route(f"{base}/{{name}}", refusals, methods=["GET"]),
    ]


def summary(plain: Survey, with_twins: Survey) -> dict[str, Any]:
    """What the files are, in numbers, and the first of those that will not be taken."""
    problems = with_twins.problems
    return {
        "pairs": plain.pairs,
        "alone": with_twins.alone,
        "rows": plain.rows,
        "wrong": len(problems),
        "problems": [{"name": entry.name, "why": entry.problem} for entry in problems[:SHOWN]],
    }


async def _received(request: Request, path: Path, size: int) -> bool:
    """Write the body as it comes; False where it is not as long as it said."""
    file: IO[bytes] = await run_in_threadpool(path.open, "wb")
    received = 0
    try:
        async for part in request.stream():
            received += len(part)
            if received > size:
                return False
            await run_in_threadpool(file.write, part)
    finally:
        await run_in_threadpool(file.close)
    return received == size


def _folder(settings: Settings, request: Request) -> Path:
    return upload_folder(settings, request.path_params["upload"])


def _refused(status: int, why: str) -> Response:
    return JSONResponse({"error": why}, status_code=status, headers={"Cache-Control": "no-store"})
