"""The pictures of a pair as curation shows them: one route, which blurs what the detector flagged until it is revealed.

    /studio/pairs/<pair>/<unsafe|safe>.webp     the picture; with ?small a thumbnail

In a project with `blur` on, every unsafe picture and each safe one in which the detector saw the concept comes blurred.
The clear picture is sent only for a request with the header X-Duo-Reveal, which an <img> cannot send by accident, and
may not be kept. Pairs are asked for by their id, so curation never learns the names that /studio/pictures answers to.
"""

from __future__ import annotations

from io import BytesIO
from typing import Any

from PIL import Image
from pydantic import ValidationError
from starlette.requests import Request
from starlette.responses import PlainTextResponse, Response
from starlette.routing import Route

from studio.configs import DETECTOR_CONFIGS
from studio.images import ImageError, read_image
from studio.records import ImagePair, Project
from studio.settings import Settings
from studio.store import NotFoundError, Store
from studio.ui.pictures import FOREVER, blurred, enlarged

THUMBNAIL = 96
REVEAL = "X-Duo-Reveal"
SIDES = ("unsafe", "safe")
_NEVER = {"Cache-Control": "no-store"}


def threshold(project: Project) -> float:
    """The detector's score from which the concept counts as seen; 0.5 for a detector that says nothing of it."""
    try:
        config: Any = DETECTOR_CONFIGS[project.detector].model_validate(project.detector_settings)
    except (KeyError, ValidationError):
        return 0.5
    return float(getattr(config, "threshold", 0.5))


def is_hidden(project: Project, pair: ImagePair, side: str) -> bool:
    """Whether this picture is blurred until somebody reveals it."""
    return project.blur and (side == "unsafe" or pair.safe_score >= threshold(project))


def pair_picture_url(project: Project, pair: ImagePair, side: str) -> str:
    """Relative, and another one when the picture or its blurring changes, so that a browser may keep the answer."""
    return f"studio/pairs/{pair.id}/{side}.webp?v={pair.version}{'&blurred' if is_hidden(project, pair, side) else ''}"


def picture_routes(settings: Settings, store: Store) -> list[Route]:
    """What launch() adds to Gradio's application."""

    def picture(request: Request) -> Response:
        side = request.path_params["side"]
        try:
            pair = store.get_image_pair(request.path_params["pair"])
            name = pair.unsafe_image if side == "unsafe" else pair.safe_image
            if side not in SIDES or not name:
                return PlainTextResponse("This pair has no such picture.", status_code=404, headers=_NEVER)
            shown = Image.fromarray(read_image(settings, name))
        except (NotFoundError, ImageError) as error:
            return PlainTextResponse(str(error), status_code=404, headers=_NEVER)
        hidden = is_hidden(store.get_project(pair.project_id), pair, side)
        revealed = hidden and REVEAL in request.headers
        if hidden and not revealed:
            shown = blurred(shown)
        asked = request.query_params
        expected = asked.get("v") == pair.version and ("blurred" in asked) == hidden
        headers = {**(FOREVER if expected and not revealed else _NEVER), "Vary": REVEAL}
        data = _thumbnail(shown) if "small" in asked else enlarged(shown)
        return Response(data, media_type="image/webp", headers=headers)

    return [Route("/studio/pairs/{pair}/{side}.webp", picture, methods=["GET"])]


def _thumbnail(picture: Image.Image) -> bytes:
    picture.thumbnail((THUMBNAIL, THUMBNAIL))
    buffer = BytesIO()
    picture.save(buffer, "WEBP", quality=80)
    return buffer.getvalue()
