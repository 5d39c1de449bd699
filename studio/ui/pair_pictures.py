"""The pictures of a pair as curation shows them; what is hidden comes blurred until it is revealed: `studio.ui.veils`.

    /studio/pairs/<pair>/<unsafe|safe>.webp     a picture; with ?small a thumbnail
    /studio/pairs/<pair>/difference.webp        where the two differ, as a heat map; hidden when one of the two is

Pairs are asked for by their id, so curation never learns the names that /studio/pictures answers to. In ?reviewer= is
who looks: 403 where `studio.ui.care_gate` does not let that reviewer through, grey pictures where these were chosen.
"""

from __future__ import annotations

from io import BytesIO

from PIL import Image, ImageOps
from starlette.requests import Request
from starlette.responses import PlainTextResponse, Response
from starlette.routing import Route

from studio.images import ImageError, read_image
from studio.records import ImagePair, Project
from studio.settings import Settings
from studio.store import NotFoundError, Store
from studio.ui.care_gate import Gate, Sight
from studio.ui.heat import absolute_difference, heat_map
from studio.ui.json_routes import ForbiddenError
from studio.ui.pictures import WEBP_METHOD, enlarged
from studio.ui.veils import NEVER, REVEAL, blurred, is_hidden, veiled
from studio.ui.viewer import viewer_of

THUMBNAIL = 96
SIDES = ("unsafe", "safe")
DIFFERENCE = "difference"


def pair_picture_url(project: Project, pair: ImagePair, side: str, sight: Sight | None = None) -> str:
    """Relative, and another one when the picture or how it is sent changes, so that a browser may keep the answer."""
    whose = f"&{sight.query}" if sight and sight.query else ""
    blur = "&blur" if is_hidden(project, pair, side) else ""
    return f"studio/pairs/{pair.id}/{side}.webp?v={pair.version}{whose}{blur}"


def picture_routes(settings: Settings, store: Store, gate: Gate | None = None) -> list[Route]:
    """What launch() adds to Gradio's application."""
    gate = gate or Gate(store, settings.care)

    def picture(request: Request) -> Response:
        side = request.path_params["side"]
        try:
            pair = store.get_image_pair(request.path_params["pair"])
            if side not in (*SIDES, DIFFERENCE) or not pair.unsafe_image or not pair.safe_image:
                return PlainTextResponse("This pair has no such picture.", status_code=404, headers=NEVER)
            project = store.get_project(pair.project_id)
            sight = look(gate, request, project)
            shown = _drawn(settings, pair, side)
        except (NotFoundError, ImageError) as error:
            return PlainTextResponse(str(error), status_code=404, headers=NEVER)
        except ForbiddenError as error:
            return PlainTextResponse(str(error), status_code=403, headers=NEVER)
        settled = request.query_params.get("v") == pair.version and means(request, sight)
        blur, headers = veiled(request, is_hidden(project, pair, side), settled=settled)
        shown = sent_to(sight, shown, blur=blur)
        data = _thumbnail(shown) if "small" in request.query_params else enlarged(shown)
        return Response(data, media_type="image/webp", headers=headers)

    return [Route("/studio/pairs/{pair}/{side}.webp", picture, methods=["GET"])]


def look(gate: Gate, request: Request, project: Project) -> Sight:
    """Who asks for a picture and how it is sent; a reveal is a sign of the reviewer. Raises ForbiddenError."""
    name = viewer_of(request).name
    sight = gate.look(project, name)
    if REVEAL in request.headers:
        gate.sign(project, name)
    return sight


def means(request: Request, sight: Sight) -> bool:
    """Whether the address says how this reviewer is sent pictures now."""
    return not sight.name or request.query_params.get("sight") == sight.care.sight


def sent_to(sight: Sight, picture: Image.Image, *, blur: bool) -> Image.Image:
    """An RGB picture as it leaves the server for this reviewer."""
    shown = blurred(picture, sight.cells) if blur else picture
    return ImageOps.grayscale(shown).convert("RGB") if sight.care.grey else shown


def _drawn(settings: Settings, pair: ImagePair, side: str) -> Image.Image:
    if side != DIFFERENCE:
        return Image.fromarray(read_image(settings, pair.unsafe_image if side == "unsafe" else pair.safe_image))
    both = (read_image(settings, name) for name in (pair.unsafe_image, pair.safe_image))
    return heat_map(absolute_difference(*both))


def _thumbnail(picture: Image.Image) -> bytes:
    picture.thumbnail((THUMBNAIL, THUMBNAIL))
    buffer = BytesIO()
    picture.save(buffer, "WEBP", quality=80, method=WEBP_METHOD)
    return buffer.getvalue()
