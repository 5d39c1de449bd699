"""One pair at several strengths, as a strip, and the pick of one: JSON and pictures over HTTP.

    GET  /studio/strengths/<project>/<pair>         the newest strip of this pair, and its job
    POST /studio/strengths/<project>/<pair>/start   a job that edits the pair at these strengths
    POST /studio/strengths/<project>/<pair>/pick    makes an edit the pair's twin
    GET  /studio/edits/<edit>.webp                  an edit's picture, blurred where it is hidden

A twin that is picked is a new picture: the pair's verdicts are taken back, in everybody's name.
"""

from __future__ import annotations

from typing import Any

from PIL import Image
from pydantic import BaseModel, ConfigDict, Field
from starlette.requests import Request
from starlette.responses import PlainTextResponse, Response
from starlette.routing import Route

from studio import jobs
from studio.configs import StrengthsConfig
from studio.images import ImageError, read_image
from studio.presets import TOYBOX_SAMPLING
from studio.records import CuratedPair, Edit, ImagePair, Project
from studio.settings import Settings
from studio.store import NotFoundError, PairChangedError, Store, StoreError
from studio.ui.care_gate import Gate, Sight
from studio.ui.curation import pair_facts
from studio.ui.json_routes import ForbiddenError, json_get, json_post
from studio.ui.pair_pictures import look, means, sent_to
from studio.ui.pictures import enlarged
from studio.ui.veils import NEVER, threshold, veiled
from studio.ui.viewer import viewer_of
from studio.ui.words import left, pill

SAMPLING = ("steps", "guidance_scale")
LIVE = ("queued", "running", "stopping")


class _Asked(BaseModel):
    model_config = ConfigDict(extra="forbid")


class StartTold(_Asked):
    version: str
    strengths: list[float] = Field(min_length=1, max_length=9)


class PickTold(_Asked):
    edit: str


def strength_routes(settings: Settings, store: Store, gate: Gate | None = None) -> list[Route]:
    """What launch() adds to Gradio's application."""
    bench = Bench(settings, store, gate or Gate(store, settings.care))
    base = "/studio/strengths/{project}/{pair}"
    return [
        json_get(base, bench.strip),
        json_post(f"{base}/start", bench.start),
        json_post(f"{base}/pick", bench.pick),
        Route("/studio/edits/{edit}.webp", bench.picture, methods=["GET"]),
    ]


class Bench:
    """Answers the routes."""

    def __init__(self, settings: Settings, store: Store, gate: Gate) -> None:
        self.settings, self.store, self.gate = settings, store, gate

    def strip(self, request: Request) -> dict[str, Any]:
        project, curated, sight = self._asked(request)
        pair, job = curated.pair, self.store.last_strengths(curated.pair.id)
        edits = self.store.list_edits(job.id) if job else []
        standing = [edit for edit in edits if edit.unsafe_image == pair.unsafe_image]
        told = None
        if job is not None:
            told = {"state": job.state, "message": job.message, "error": job.error, "left": left(job.eta_seconds)}
        return {
            "pair": pair_facts(project, curated, sight),
            "job": told,
            "edits": [_edit(project, pair, edit, sight) for edit in standing],
            "strengths": StrengthsConfig(pair=pair.id).strengths,
        }

    def start(self, request: Request, body: bytes) -> dict[str, Any]:
        (project, curated, _), told = self._asked(request), StartTold.model_validate_json(body)
        if curated.pair.version != told.version:
            raise PairChangedError("This pair was made again since you saw it. Look at its new pictures first.")
        before = self.store.last_strengths(curated.pair.id)
        if before is not None and before.state in LIVE:
            raise StoreError("Strengths are being tried on this pair already. Wait for them, or stop that job in Jobs.")
        config = {**self._sampling(project), "pair": curated.pair.id, "strengths": told.strengths}
        jobs.submit(self.store, self.settings, "strengths", project.id, config)
        return self.strip(request)

    def pick(self, request: Request, body: bytes) -> dict[str, Any]:
        (_, curated, _), told = self._asked(request), PickTold.model_validate_json(body)
        if self.store.get_edit(told.edit).pair_id != curated.pair.id:
            raise NotFoundError(f"The edit {told.edit!r} is not one of pair {curated.pair.id!r}.")
        self.store.pick_edit(told.edit)
        return self.strip(request)

    def picture(self, request: Request) -> Response:
        try:
            edit = self.store.get_edit(request.path_params["edit"])
            shown = Image.fromarray(read_image(self.settings, edit.image))
            project = self.store.get_project(self.store.get_image_pair(edit.pair_id).project_id)
            sight = look(self.gate, request, project)
        except (NotFoundError, ImageError) as error:
            return PlainTextResponse(str(error), status_code=404, headers=NEVER)
        except ForbiddenError as error:
            return PlainTextResponse(str(error), status_code=403, headers=NEVER)
        blur, headers = veiled(request, _is_hidden(project, edit), settled=means(request, sight))
        return Response(enlarged(sent_to(sight, shown, blur=blur)), media_type="image/webp", headers=headers)

    def _sampling(self, project: Project) -> dict[str, Any]:
        """As the project's pairs were made last."""
        made = [job for job in self.store.list_jobs(project.id) if job.kind == "pairs"]
        known = made[-1].config if made else TOYBOX_SAMPLING if project.checkpoint == "toybox" else {}
        return {name: known[name] for name in SAMPLING if name in known}

    def _asked(self, request: Request) -> tuple[Project, CuratedPair, Sight]:
        project, name = self.store.get_project(request.path_params["project"]), viewer_of(request).name
        sight = self.gate.look(project, name)
        curated = self.store.curated_pair(request.path_params["pair"], name)
        if curated.pair.project_id != project.id:
            raise NotFoundError(f"The pair {curated.pair.id!r} is not one of project {project.name!r}.")
        return project, curated, sight


def _edit(project: Project, pair: ImagePair, edit: Edit, sight: Sight) -> dict[str, Any]:
    query = "&".join(filter(None, [sight.query, "blur" if _is_hidden(project, edit) else ""]))
    return {
        "id": edit.id,
        "position": edit.position,
        "strength": edit.strength,
        "distance": edit.distance,
        "pill": pill(project.concept, edit.score >= threshold(project), edit.score),
        "src": f"studio/edits/{edit.id}.webp{'?' if query else ''}{query}",
        "now": edit.image == pair.safe_image,
    }


def _is_hidden(project: Project, edit: Edit) -> bool:
    return project.blur and edit.score >= threshold(project)
