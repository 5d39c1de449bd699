"""Which pictures a browser gets blurred, and what blurred means. Every route that sends a picture asks here.

In a project with `blur` on, a picture is hidden unless the detector was asked and did not see the concept; an unsafe
picture of a pair always is. A hidden picture is sent blurred, whatever its address says, except for a request with the
header X-Duo-Reveal, which neither an <img> nor a link can send: the page's script does while somebody holds. What was
revealed may not be kept. Blurring is a courtesy to those who look, no lock: whoever can open the page can reveal.
A picture of a stopped pair (`studio.stop_rows`) is sent to nobody, in no form, and one of a sensitive project's pair to
nobody who has not agreed to the notice, of any project's pair to nobody whose day is over (`studio.ui.care_gate`).
"""

from __future__ import annotations

import base64
import re
from dataclasses import dataclass
from io import BytesIO
from typing import Any

from PIL import Image, ImageOps
from pydantic import ValidationError
from starlette.requests import Request

from studio.care import BLURS
from studio.detector_configs import DETECTOR_CONFIGS
from studio.images import ImageError, read_image, read_metadata
from studio.records import Evaluation, ImagePair, PictureUse, Project
from studio.settings import Settings
from studio.store import Store
from studio.ui.care_gate import Gate

REVEAL = "X-Duo-Reveal"
VIEW_SIDE = 320
BLUR_CELLS = BLURS["strong"]
FOREVER = {"Cache-Control": "private, max-age=31536000, immutable"}
NEVER = {"Cache-Control": "no-store"}
_EMBEDDED = re.compile(r"data:image/(?:png|jpeg|webp|gif);base64,([A-Za-z0-9+/=]+)")


@dataclass(frozen=True)
class Seen:
    """A picture as one viewer may see it."""

    picture: Image.Image  # RGB
    hidden: bool
    grey: bool  # it is a pair's, and this viewer has chosen grey pictures

    def toned(self, drawn: Image.Image) -> Image.Image:
        """An RGB picture, this one or one made of it, in the colours that the viewer is sent."""
        return ImageOps.grayscale(drawn).convert("RGB") if self.grey else drawn


class Veils:
    """Tells what is hidden, by the rows of the store and by what a picture says of itself."""

    def __init__(self, settings: Settings, store: Store) -> None:
        self.settings, self.store, self.gate = settings, store, Gate(store, settings.care)

    def read(self, sha256: str, viewer: str) -> Seen:
        """A picture. Raises ImageError where it is not there, ForbiddenError where it is not for this viewer."""
        if self.store.is_stopped_picture(sha256):
            raise ImageError("This picture belongs to a pair that was stopped. It is shown to nobody.")
        grey = False
        for use in self.store.picture_uses(sha256):
            if use.what in ("unsafe", "safe"):
                grey |= self.gate.look(self.store.get_project(use.project_id), viewer).care.grey
        return Seen(Image.fromarray(read_image(self.settings, sha256)), self.hides(sha256), grey)

    def hides(self, sha256: str) -> bool:
        """Whether a picture is hidden: by one of its uses, or since Compare drew it for a project that blurs.

        One that no row and no project claims is hidden as long as any project blurs.
        """
        if not self.store.blurs_anything():
            return False
        projects = {project.id: project for project in self.store.list_projects()}
        uses = self.store.picture_uses(sha256)
        if any(_hidden_use(projects[use.project_id], use) for use in uses):
            return True
        facts = read_metadata(self.settings, sha256)
        drawn_for = projects.get(facts.get("project", ""))
        if drawn_for is None and uses:
            return False
        return (drawn_for is None or drawn_for.blur) and not facts.get("detector_verdict", "").startswith("not found")

    def hides_shot(self, evaluation: Evaluation, file: str) -> bool:
        """Whether a picture in an evaluation's folder is hidden: all but those that the report says are without it."""
        return self.store.get_project(evaluation.project_id).blur and file not in clear_shots(evaluation)


def clear_shots(evaluation: Evaluation) -> set[str]:
    """The files of an evaluation's gallery in which the concept was not found."""
    shots = [shot for row in evaluation.report.get("gallery", []) for shot in row["shots"].values()]
    return {shot["picture"] for shot in shots} - {shot["picture"] for shot in shots if shot["found"]}


def threshold(project: Project) -> float:
    """The detector's score from which the concept counts as seen; 0.5 for a detector that says nothing of it."""
    try:
        config: Any = DETECTOR_CONFIGS[project.detector].model_validate(project.detector_settings)
    except (KeyError, ValidationError):
        return 0.5
    return float(getattr(config, "threshold", 0.5))


def is_hidden(project: Project, pair: ImagePair, side: str) -> bool:
    """Whether this picture of a pair, or what is drawn from both, is blurred until somebody reveals it."""
    return project.blur and (side != "safe" or pair.safe_score >= threshold(project))


def veiled(request: Request, hidden: bool, *, settled: bool = True) -> tuple[bool, dict[str, str]]:
    """Whether this answer is blurred, and the headers that say how long it may be kept.

    `?blur` asks for a blurred picture that is not hidden. `settled`: the address means this picture for good.
    """
    revealed, asked = REVEAL in request.headers, "blur" in request.query_params
    keep = settled and not revealed and (asked or not hidden)
    return (hidden or asked) and not revealed, {**(FOREVER if keep else NEVER), "Vary": REVEAL}


def blurred(picture: Image.Image, cells: int = BLUR_CELLS) -> Image.Image:
    """The picture at VIEW_SIDE with nothing left of it but `cells` x `cells` smooth colours."""
    return picture.resize((cells, cells), Image.Resampling.BOX).resize(
        (VIEW_SIDE, VIEW_SIDE * picture.height // picture.width), Image.Resampling.BICUBIC
    )


def blurred_page(page: str, clear: set[bytes]) -> str:
    """An HTML page with every picture embedded in it blurred, but for those with these bytes."""

    def replaced(found: re.Match[str]) -> str:
        data = base64.b64decode(found[1])
        if data in clear:
            return found[0]
        with Image.open(BytesIO(data)) as picture:
            return f"data:image/png;base64,{base64.b64encode(png(blurred(picture.convert('RGB')))).decode('ascii')}"

    return _EMBEDDED.sub(replaced, page)


def png(picture: Image.Image) -> bytes:
    buffer = BytesIO()
    picture.save(buffer, "PNG")
    return buffer.getvalue()


def _hidden_use(project: Project, use: PictureUse) -> bool:
    if not project.blur or use.what == "unsafe":
        return project.blur
    return use.found is not False if use.what == "drawn" else (use.score or 0.0) >= threshold(project)
