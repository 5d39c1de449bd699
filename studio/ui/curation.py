"""What the Curate tab asks and tells: JSON over HTTP, one small request a decision.

    GET  /studio/curation/<project>/counts      progress, and a mark that changes when anything does
    GET  /studio/curation/<project>/pairs       a page: ?shows= &sort= &prompts= &after= or &before= &limit=
    GET  /studio/curation/<project>/next        what to look at after the pair ?after=; from the start again at the end
    GET  /studio/curation/<project>/pair/<id>   one pair
    POST /studio/curation/<project>/decide      one verdict; its id is made by the browser, so it can be told again
    POST /studio/curation/<project>/undo        takes one back
    POST /studio/curation/<project>/redo        pairs to be made again: another seed, more strength

What is refused and how: `studio.ui.json_routes`; who is let through to the pairs: `studio.ui.care_gate`. Pairs never
carry the names of their pictures.
"""

from __future__ import annotations

from typing import Any, Literal, TypeVar

from pydantic import BaseModel, ConfigDict, Field
from starlette.requests import Request
from starlette.routing import Route

from studio import jobs
from studio.presets import TOYBOX_PAIRS, TOYBOX_SAMPLING
from studio.records import CuratedPair, ImagePair, PairFilter, PairQuery, PairSort, Project, Verdict
from studio.settings import Settings
from studio.store import DETECTOR, NotFoundError, PairChangedError, Store, StoreError
from studio.ui.care_gate import Gate, Sight
from studio.ui.care_routes import care_routes
from studio.ui.json_routes import Name, RowId, json_get, json_post
from studio.ui.pair_pictures import DIFFERENCE, pair_picture_url, picture_routes
from studio.ui.stops import stop_routes
from studio.ui.turns import Turns
from studio.ui.veils import is_hidden, threshold
from studio.ui.viewer import viewer_of
from studio.ui.words import ago, pill

LARGEST_PAGE = 200
IN_HAND = 3  # of the pairs that a page is given, those that the others leave to it
SHARED_WORK = ("undecided", "detector")  # lists that open pages divide among them
T = TypeVar("T", bound=BaseModel)


class _Asked(BaseModel):
    model_config = ConfigDict(extra="forbid")


class PageAsked(_Asked):
    """The query of a list; `desk` is the open page that asks, `reviewer` who sits at it."""

    desk: str = Field("", max_length=60)
    reviewer: str = Field("", max_length=60)

    shows: PairFilter = "undecided"
    sort: PairSort = "made"
    prompts: str = ""
    after: str = ""
    before: str = ""
    limit: int = Field(24, ge=1, le=LARGEST_PAGE)

    @property
    def query(self) -> PairQuery:
        return PairQuery(self.shows, self.sort, self.prompts, self.reviewer.strip())


class DecisionTold(_Asked):
    """A person's verdict on the pair as it was seen."""

    id: RowId
    pair: str
    version: str
    verdict: Literal["accept", "reject", "skip"]
    reason: str = Field("", max_length=200)
    reviewer: Name
    revealed: bool = False
    milliseconds: int = Field(0, ge=0, le=1 << 40)


class UndoTold(_Asked):
    """Takes back the verdict `supersedes`, or else the reviewer's standing one on the pair."""

    id: RowId
    pair: str
    supersedes: str | None = None
    reviewer: Name


class RedoTold(_Asked):
    """Pairs to be made again, with the version that was seen; or all failed ones."""

    pairs: dict[str, str] = Field({}, max_length=LARGEST_PAGE)
    failed: bool = False


def curation_routes(settings: Settings, store: Store, gate: Gate | None = None) -> list[Route]:
    """What launch() adds to Gradio's application."""
    gate = gate or Gate(store, settings.care)
    desk = Desk(settings, store, gate)
    base = "/studio/curation/{project}"
    return [
        json_get(f"{base}/counts", desk.counts),
        json_get(f"{base}/pairs", desk.page),
        json_get(f"{base}/next", desk.coming),
        json_get(f"{base}/pair/{{pair}}", desk.pair),
        json_post(f"{base}/decide", desk.decide),
        json_post(f"{base}/undo", desk.undo),
        json_post(f"{base}/redo", desk.redo),
        *stop_routes(settings, store),
        *picture_routes(settings, store, gate),
        *care_routes(store, gate),
    ]


class Desk:
    """Answers the routes: the store's records in, dictionaries for the script out."""

    def __init__(self, settings: Settings, store: Store, gate: Gate) -> None:
        self.settings, self.store, self.gate, self.turns = settings, store, gate, Turns()

    def counts(self, request: Request) -> dict[str, Any]:
        self.turns.keep(request.path_params["project"], request.query_params.get("desk", ""))
        return self._counts(self._project(request), viewer_of(request).name)

    def page(self, request: Request) -> dict[str, Any]:
        """A page in the query's order; "more" tells whether it goes on in the direction that was asked for."""
        project, asked = self._project(request), PageAsked.model_validate(dict(request.query_params))
        sight = self.gate.look(project, asked.query.viewer)
        found = self.store.page_of_pairs(
            project.id, asked.query, after=asked.after, before=asked.before, limit=asked.limit + 1
        )
        more = len(found) > asked.limit
        kept = found[more:] if asked.before else found[: asked.limit]
        return {"pairs": [pair_facts(project, one, sight) for one in kept], "more": more}

    def coming(self, request: Request) -> dict[str, Any]:
        """The next pairs to look at; those before the pair `after` come again once the end is reached.

        While there is other work, what another open page has been given is left to it.
        """
        project, asked = self._project(request), PageAsked.model_validate(dict(request.query_params))
        sight = self.gate.look(project, asked.query.viewer)
        taken = self.turns.of_others(project.id, asked.desk) if asked.shows in SHARED_WORK else set()
        size = asked.limit + len(taken)
        found = self.store.page_of_pairs(project.id, asked.query, after=asked.after, limit=size)
        if asked.after and len(found) < size:
            known = {asked.after, *(one.pair.id for one in found)}
            first = self.store.page_of_pairs(project.id, asked.query, limit=size)
            found += [one for one in first if one.pair.id not in known]
        kept = ([one for one in found if one.pair.id not in taken] or found)[: asked.limit]
        self.turns.take(project.id, asked.desk, {asked.after, *(one.pair.id for one in kept[:IN_HAND])})
        pairs = [pair_facts(project, one, sight) for one in kept]
        return {"pairs": pairs, **self._counts(project, asked.query.viewer)}

    def pair(self, request: Request) -> dict[str, Any]:
        project, name = self._project(request), viewer_of(request).name
        sight = self.gate.look(project, name, request.path_params["pair"])
        return pair_facts(project, self._pair(project, request.path_params["pair"], name), sight)

    def decide(self, request: Request, body: bytes) -> dict[str, Any]:
        project, told = self._project(request), DecisionTold.model_validate_json(body)
        self._pair(project, told.pair)
        verdict = Verdict(
            told.id, told.pair, told.reviewer, told.verdict, told.reason, told.revealed, told.milliseconds
        )
        with self.store.transaction():  # of two decisions at once, the second one knows of the first
            sight = self.gate.look(project, told.reviewer, told.pair)
            self.store.add_verdict(verdict, seen=told.version)
            self.gate.sign(project, told.reviewer, told.pair)
        return self._state(project, told.pair, sight)

    def undo(self, request: Request, body: bytes) -> dict[str, Any]:
        project, told = self._project(request), UndoTold.model_validate_json(body)
        self.gate.pass_notice(project, told.reviewer)
        self._pair(project, told.pair)
        self.store.add_verdict(Verdict(told.id, told.pair, told.reviewer, "undo", supersedes=told.supersedes))
        return self._state(project, told.pair, self.gate.sight(project, told.reviewer))

    def redo(self, request: Request, body: bytes) -> dict[str, Any]:
        """Queue pairs to be made again; those that already wait are left as they are."""
        project, told = self._project(request), RedoTold.model_validate_json(body)
        self.gate.pass_notice(project, viewer_of(request).name)
        for pair_id, version in told.pairs.items():
            pair = self._pair(project, pair_id).pair
            if pair.version != version:
                raise PairChangedError("This pair was made again since you saw it. Look at its new pictures first.")
            if pair.origin == "brought":
                raise StoreError(
                    "Both pictures of this pair were brought from outside: there is nothing to make again."
                )
        wanted = list(told.pairs)
        if told.failed:
            wanted += [pair.id for pair in self.store.list_image_pairs(project.id, "failed")]
        waiting = self.store.being_made_again(project.id)
        missing = [pair_id for pair_id in dict.fromkeys(wanted) if pair_id not in waiting]
        if missing and self.store.extend_redo(project.id, missing) is None:
            jobs.submit(self.store, self.settings, "pairs", project.id, {**self._settings(project), "redo": missing})
        return {"queued": len(missing), **self._counts(project, viewer_of(request).name)}

    def _settings(self, project: Project) -> dict[str, Any]:
        """As the project's pairs were made last, except that nobody decides for the reviewer."""
        made = [job for job in self.store.list_jobs(project.id) if job.kind == "pairs"]
        known = {**TOYBOX_SAMPLING, **TOYBOX_PAIRS} if project.checkpoint == "toybox" else {}
        return {**(made[-1].config if made else known), "auto_accept": False, "retry_failed": False}

    def _project(self, request: Request) -> Project:
        return self.store.get_project(request.path_params["project"])

    def _pair(self, project: Project, pair_id: str, viewer: str = "") -> CuratedPair:
        found = self.store.curated_pair(pair_id, viewer)
        if found.pair.project_id != project.id:
            raise NotFoundError(f"The pair {pair_id!r} is not one of project {project.name!r}.")
        return found

    def _state(self, project: Project, pair_id: str, sight: Sight) -> dict[str, Any]:
        pair = pair_facts(project, self._pair(project, pair_id, sight.name), sight)
        return {"pair": pair, **self._counts(project, sight.name)}

    def _counts(self, project: Project, viewer: str) -> dict[str, Any]:
        """How project and reviewer stand, and how many undecided pairs are `left` to this reviewer."""
        counts = self.store.pair_counts(project.id)
        numbers = {**vars(counts), "undecided": counts.undecided}
        numbers["again"] = len(self.store.being_made_again(project.id))
        numbers["left"] = self.store.count_pairs(project.id, PairQuery(viewer=viewer))
        mark, care = self.store.pairs_mark(project.id), self.gate.state(project, viewer)
        return {"counts": numbers, "mark": mark, "care": care}


def pair_facts(project: Project, curated: CuratedPair, sight: Sight) -> dict[str, Any]:
    """One pair as the script shows it to this reviewer; of one that waits for others, the own verdict alone."""
    pair, verdict = curated.pair, curated.verdict or curated.own
    decision: dict[str, Any] | None = None
    if verdict is not None:
        decision = {"id": verdict.id, "verdict": verdict.verdict, "by": verdict.reviewer, "reason": verdict.reason}
        decision |= {"when": ago(verdict.created), "detector": verdict.reviewer == DETECTOR}
    return {
        "id": pair.id,
        "version": pair.version,
        "state": pair.state,
        "prompts": {"id": curated.prompts.id, "unsafe": curated.prompts.unsafe, "safe": curated.prompts.safe},
        "unsafe": _side(project, pair, "unsafe", pair.unsafe_score, sight),
        "safe": _side(project, pair, "safe", pair.safe_score, sight),
        "difference": {
            "src": pair_picture_url(project, pair, DIFFERENCE, sight) if pair.state == "ready" else "",
            "hidden": is_hidden(project, pair, DIFFERENCE),
        },
        "origin": pair.origin,
        "source": {key: str(pair.source.get(key, "")) for key in ("from", "unsafe", "safe")},
        "distance": pair.distance,
        "strength": pair.strength,
        "tries": pair.tries,
        "seed": pair.seed,
        "reason": pair.reason,
        "decision": decision,
        "again": curated.again,
        "waits": curated.waits.partition(":")[0],  # without the first reviewer's name
    }


def _side(project: Project, pair: ImagePair, side: str, score: float, sight: Sight) -> dict[str, Any]:
    return {
        "src": pair_picture_url(project, pair, side, sight) if pair.state == "ready" else "",
        "pill": pill(project.concept, score >= threshold(project), score),
        "hidden": is_hidden(project, pair, side),
        "score": score,
    }
