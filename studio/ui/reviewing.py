"""What the Curate tab's Reviewers view asks and tells: JSON over HTTP.

    GET  /studio/reviewers/<project>            second reviews, agreement, and the work that the visitor may see
    GET  /studio/reviewers/<project>/conflicts  pairs on which two people disagree, with both verdicts; for the owner
    POST /studio/reviewers/<project>/share      which share of the pairs needs two people who agree; for the owner
    POST /studio/reviewers/<project>/settle     the owner's word on a disagreement

Who asks is told by `studio.ui.viewer` alone. A reviewer's speed and reveals go to that reviewer and the owner.
"""

from __future__ import annotations

from typing import Any, Literal

from pydantic import BaseModel, ConfigDict, Field
from starlette.requests import Request
from starlette.routing import Route

from studio.agreement import agreement
from studio.records import PairQuery, Project, Verdict
from studio.store import NotFoundError, Store
from studio.ui.agreement_figure import agreement_figure, second_reviews_figure, work_table
from studio.ui.care_gate import Gate
from studio.ui.curation import LARGEST_PAGE, pair_facts
from studio.ui.json_routes import Name, RowId, json_get, json_post
from studio.ui.viewer import owner_alone, viewer_of
from studio.ui.words import ago


class _Asked(BaseModel):
    model_config = ConfigDict(extra="forbid")


class ConflictsAsked(_Asked):
    reviewer: str = ""
    after: str = ""
    limit: int = Field(12, ge=1, le=LARGEST_PAGE)


class ShareTold(_Asked):
    share: float = Field(ge=0, le=1)


class SettleTold(_Asked):
    """The owner's word on the pair as it was seen."""

    id: RowId
    pair: str
    version: str
    verdict: Literal["accept", "reject"]
    reason: str = Field("", max_length=200)
    reviewer: Name


def reviewer_routes(store: Store, gate: Gate | None = None) -> list[Route]:
    """What launch() adds to Gradio's application."""
    office = Office(store, gate or Gate(store))
    base = "/studio/reviewers/{project}"
    return [
        json_get(base, office.overview),
        json_get(f"{base}/conflicts", office.conflicts),
        json_post(f"{base}/share", office.share),
        json_post(f"{base}/settle", office.settle),
    ]


class Office:
    """Answers the routes."""

    def __init__(self, store: Store, gate: Gate) -> None:
        self.store, self.gate = store, gate

    def overview(self, request: Request) -> dict[str, Any]:
        project, viewer = self._project(request), viewer_of(request)
        stand = self.store.second_reviews(project.id)
        work = [one for one in self.store.reviewer_work(project.id) if viewer.may_see_work_of(one.reviewer)]
        return {
            "owner": viewer.is_owner,
            "share": project.second_share,
            "open": stand.open,
            "reviews": second_reviews_figure(project.second_share, stand),
            "agreement": agreement_figure(agreement(self.store.opinions(project.id))),
            "work": work_table(work, viewer),
            "mark": self.store.pairs_mark(project.id),
        }

    def conflicts(self, request: Request) -> dict[str, Any]:
        project = self._owned(request, "see disagreements")
        asked = ConflictsAsked.model_validate(dict(request.query_params))
        query = PairQuery("conflict", viewer=asked.reviewer.strip())
        sight = self.gate.look(project, query.viewer)
        found = self.store.page_of_pairs(project.id, query, after=asked.after, limit=asked.limit + 1)
        kept = found[: asked.limit]
        voices = self.store.voices([one.pair.id for one in kept])
        pairs = [
            {**pair_facts(project, one, sight), "voices": [_voice(v) for v in voices[one.pair.id]]} for one in kept
        ]
        return {"pairs": pairs, "more": len(found) > asked.limit}

    def share(self, request: Request, body: bytes) -> dict[str, Any]:
        project = self._owned(request, "set the share of second reviews")
        self.store.update_project(project.id, second_share=ShareTold.model_validate_json(body).share)
        return self.overview(request)

    def settle(self, request: Request, body: bytes) -> dict[str, Any]:
        project, told = self._owned(request, "settle a disagreement"), SettleTold.model_validate_json(body)
        if self.store.curated_pair(told.pair).pair.project_id != project.id:
            raise NotFoundError(f"The pair {told.pair!r} is not one of project {project.name!r}.")
        verdict = Verdict(told.id, told.pair, told.reviewer, told.verdict, told.reason, settles=True)
        sight = self.gate.look(project, told.reviewer)
        self.store.add_verdict(verdict, seen=told.version)
        self.gate.sign(project, told.reviewer)
        return {"pair": pair_facts(project, self.store.curated_pair(told.pair), sight)}

    def _owned(self, request: Request, what: str) -> Project:
        owner_alone(request, what)
        return self._project(request)

    def _project(self, request: Request) -> Project:
        return self.store.get_project(request.path_params["project"])


def _voice(verdict: Verdict) -> dict[str, Any]:
    return {
        "by": verdict.reviewer,
        "verdict": verdict.verdict,
        "reason": verdict.reason,
        "when": ago(verdict.created),
    }
