"""The one way pictures and reports reach a browser: two routes beside Gradio's own, read-only, no file copied.

    /studio/pictures/<sha256>.png      the picture itself, with what made it in its PNG text
    /studio/pictures/<sha256>.webp     the same for showing: small pictures enlarged smoothly to VIEW_SIDE pixels;
                                       with ?blur only its colours, roughly where they are
    /studio/reports/<evaluation>/<file>    report.html, report.json or a picture of a finished evaluation;
                                       a picture with ?view comes enlarged in the same way

A picture is asked for by the hash of its bytes, an evaluation by its id, and a file must lie in that evaluation's
folder, so no path from outside is ever opened.
"""

from __future__ import annotations

from collections.abc import Callable
from io import BytesIO
from pathlib import Path

from PIL import Image
from starlette.requests import Request
from starlette.responses import FileResponse, PlainTextResponse, Response
from starlette.routing import Route

from studio.images import ImageError, image_path, read_image
from studio.settings import Settings
from studio.store import NotFoundError, Store
from studio.ui.adapters import adapter_routes

VIEW_SIDE = 320
BLUR_CELLS = 6
REPORT_FILES = {".html", ".json", ".png", ".webp", ".svg", ".csv"}
FOREVER = {"Cache-Control": "private, max-age=31536000, immutable"}


def picture_url(sha256: str, *, original: bool = False, blur: bool = False) -> str:
    """Relative, so that it also works behind a proxy that adds a path."""
    return f"studio/pictures/{sha256}.{'png' if original else 'webp'}{'?blur' if blur else ''}"


def report_url(evaluation_id: str, file: str, *, view: bool = False) -> str:
    return f"studio/reports/{evaluation_id}/{file}{'?view' if view else ''}"


def routes(settings: Settings, store: Store) -> list[Route]:
    """What launch() adds to Gradio's application."""

    def picture(request: Request) -> Response:
        name, _, kind = request.path_params["name"].rpartition(".")
        try:
            path = image_path(settings, name)
            if kind == "png" and path.exists():
                return FileResponse(path, media_type="image/png", headers=FOREVER)
            if kind == "webp":
                picture = Image.fromarray(read_image(settings, name))
                picture = blurred(picture) if "blur" in request.query_params else picture
                return Response(enlarged(picture), media_type="image/webp", headers=FOREVER)
        except ImageError as error:
            return PlainTextResponse(str(error), status_code=404)
        return PlainTextResponse("There is no such picture.", status_code=404)

    def report(request: Request) -> Response:
        try:
            folder = Path(store.get_evaluation(request.path_params["evaluation"]).folder).resolve()
        except NotFoundError:
            return PlainTextResponse("There is no such evaluation.", status_code=404)
        path = (folder / request.path_params["file"]).resolve()
        if not path.is_relative_to(folder) or path.suffix not in REPORT_FILES or not path.is_file():
            return PlainTextResponse("There is no such file in this report.", status_code=404)
        if "view" in request.query_params and path.suffix == ".png":
            with Image.open(path) as shot:
                shown = shot.convert("RGB")
                shown = blurred(shown) if "blur" in request.query_params else shown
                return Response(enlarged(shown), media_type="image/webp", headers=FOREVER)
        return FileResponse(path, headers={"X-Content-Type-Options": "nosniff"})

    return [
        _route("/studio/pictures/{name}", picture),
        _route("/studio/reports/{evaluation}/{file:path}", report),
        *adapter_routes(settings, store),
    ]


def blurred(picture: Image.Image) -> Image.Image:
    """The picture at VIEW_SIDE with nothing left of it but BLUR_CELLS x BLUR_CELLS smooth colours."""
    return picture.resize((BLUR_CELLS, BLUR_CELLS), Image.Resampling.BOX).resize(
        (VIEW_SIDE, VIEW_SIDE * picture.height // picture.width), Image.Resampling.BICUBIC
    )


def _route(path: str, endpoint: Callable[[Request], Response]) -> Route:
    return Route(path, endpoint, methods=["GET"])


def enlarged(picture: Image.Image) -> bytes:
    """A WebP of an RGB picture, enlarged to VIEW_SIDE when smaller (Lanczos: smooth, still crisp)."""
    scale = VIEW_SIDE / max(picture.size)
    if scale > 1:
        size = (round(picture.width * scale), round(picture.height * scale))
        picture = picture.resize(size, Image.Resampling.LANCZOS)
    buffer = BytesIO()
    picture.save(buffer, "WEBP", quality=92)
    return buffer.getvalue()
