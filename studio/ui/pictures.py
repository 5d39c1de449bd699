"""The one way pictures and reports reach a browser: two routes beside Gradio's own, read-only, no file copied.

    /studio/pictures/<sha256>.png      the picture itself, with what made it in its PNG text
    /studio/pictures/<sha256>.webp     the same for showing: small pictures enlarged smoothly to VIEW_SIDE pixels
    /studio/reports/<evaluation>/<file>    report.html, report.json or a picture of a finished evaluation;
                                       a picture with ?view comes enlarged in the same way

A picture is asked for by the hash of its bytes, an evaluation by its id, and a file must lie in that evaluation's
folder, so no path from outside is ever opened. With ?blur a picture has only its colours, roughly where they are; one
that is hidden has no more without it, see `studio.ui.veils`, and neither have those inside report.html.
"""

from __future__ import annotations

from io import BytesIO
from pathlib import Path

from PIL import Image
from starlette.requests import Request
from starlette.responses import FileResponse, HTMLResponse, PlainTextResponse, Response
from starlette.routing import Route

from studio.images import ImageError, image_path
from studio.records import Evaluation
from studio.settings import Settings
from studio.store import NotFoundError, Store
from studio.ui.adapters import adapter_routes
from studio.ui.json_routes import ForbiddenError
from studio.ui.veils import NEVER, REVEAL, VIEW_SIDE, Veils, blurred, blurred_page, clear_shots, png, veiled
from studio.ui.viewer import viewer_of

WEBP_METHOD = 1  # half the time of WebP's default, for a twentieth more bytes
REPORT_FILES = {".html", ".json", ".png", ".webp", ".svg", ".csv"}
PICTURES = {".png", ".webp"}
NO_SCRIPTS = {  # of a page that may hold what anybody wrote
    "Content-Security-Policy": "default-src 'none'; img-src 'self' data:; style-src 'unsafe-inline'; sandbox "
    "allow-popups allow-downloads; frame-ancestors 'self'"
}


def picture_url(sha256: str, *, original: bool = False, blur: bool = False) -> str:
    """Relative, so that it also works behind a proxy that adds a path."""
    return f"studio/pictures/{sha256}.{'png' if original else 'webp'}{'?blur' if blur else ''}"


def report_url(evaluation_id: str, file: str, *, view: bool = False) -> str:
    return f"studio/reports/{evaluation_id}/{file}{'?view' if view else ''}"


def routes(settings: Settings, store: Store) -> list[Route]:
    """What launch() adds to Gradio's application."""
    veils = Veils(settings, store)

    def picture(request: Request) -> Response:
        name, _, kind = request.path_params["name"].rpartition(".")
        if kind not in ("png", "webp"):
            return _none("There is no such picture.")
        try:
            seen = veils.read(name, viewer_of(request).name)
        except ImageError as error:
            return _none(str(error))
        except ForbiddenError as error:
            return PlainTextResponse(str(error), status_code=403, headers=NEVER)
        blur, headers = veiled(request, seen.hidden, settled=not seen.grey)
        shown = seen.toned(blurred(seen.picture) if blur else seen.picture)
        if kind == "webp":
            return Response(enlarged(shown), media_type="image/webp", headers=headers)
        if blur or seen.grey:
            return Response(png(shown), media_type="image/png", headers=headers)
        return FileResponse(image_path(settings, name), media_type="image/png", headers=headers)

    def report(request: Request) -> Response:
        try:
            evaluation = store.get_evaluation(request.path_params["evaluation"])
        except NotFoundError:
            return _none("There is no such evaluation.")
        folder = Path(evaluation.folder).resolve()
        path = (folder / request.path_params["file"]).resolve()
        if not path.is_relative_to(folder) or path.suffix not in REPORT_FILES or not path.is_file():
            return _none("There is no such file in this report.")
        if path.suffix in PICTURES:
            return _shot(request, path, veils.hides_shot(evaluation, path.relative_to(folder).as_posix()))
        blur, headers = veiled(request, store.get_project(evaluation.project_id).blur)
        if path.suffix in (".html", ".svg") and blur:
            return _veiled_page(evaluation, path, headers)
        return FileResponse(path, headers={**NEVER, **NO_SCRIPTS, "Vary": REVEAL, "X-Content-Type-Options": "nosniff"})

    return [
        Route("/studio/pictures/{name}", picture, methods=["GET"]),
        Route("/studio/reports/{evaluation}/{file:path}", report, methods=["GET"]),
        *adapter_routes(settings, store),
    ]


def _shot(request: Request, path: Path, hidden: bool) -> Response:
    """A picture of an evaluation."""
    blur, headers = veiled(request, hidden)
    if "view" not in request.query_params and not blur:
        return FileResponse(path, headers={**headers, "X-Content-Type-Options": "nosniff"})
    with Image.open(path) as shot:
        shown = shot.convert("RGB")
    return Response(enlarged(blurred(shown) if blur else shown), media_type="image/webp", headers=headers)


def _veiled_page(evaluation: Evaluation, path: Path, headers: dict[str, str]) -> Response:
    """A page of an evaluation as it may be opened unasked: with the pictures inside it blurred."""
    folder = Path(evaluation.folder)
    clear = {(folder / name).read_bytes() for name in clear_shots(evaluation) if (folder / name).is_file()}
    text = blurred_page(path.read_text(encoding="utf-8"), clear)
    return HTMLResponse(text, headers={**headers, **NO_SCRIPTS, "X-Content-Type-Options": "nosniff"})


def _none(why: str) -> Response:
    return PlainTextResponse(why, status_code=404, headers=NEVER)


def enlarged(picture: Image.Image) -> bytes:
    """A WebP of an RGB picture, enlarged to VIEW_SIDE when smaller (Lanczos: smooth, still crisp)."""
    scale = VIEW_SIDE / max(picture.size)
    if scale > 1:
        size = (round(picture.width * scale), round(picture.height * scale))
        picture = picture.resize(size, Image.Resampling.LANCZOS)
    buffer = BytesIO()
    picture.save(buffer, "WEBP", quality=92, method=WEBP_METHOD)
    return buffer.getvalue()
