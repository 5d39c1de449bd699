"""What the Curate tab's grid asks and tells: many pairs at once, JSON over HTTP.

    GET  /studio/bulk/<project>/pairs      a page of the filter (fields of `Which`): ?after= or &before= &limit=
    GET  /studio/bulk/<project>/numbers    how many pairs the filter finds, what its thresholds propose, who decides
    POST /studio/bulk/<project>/preview    what an action would do: how many, whose decisions it replaces, first pairs
    POST /studio/bulk/<project>/apply      does it, under an id of the browser's: told again, it goes on where it was
    POST /studio/bulk/<project>/undo       takes a whole action back
    GET  /studio/bulk/<project>/actions    the last ones

A proposal of thresholds is no decision; it becomes one by `apply` alone, in the reviewer's name. An action on all pairs
that a filter finds leaves out those that were made after its preview (`until`).
"""

from __future__ import annotations

import time
from collections.abc import Iterator
from dataclasses import asdict, replace
from typing import Any, Literal

from pydantic import BaseModel, ConfigDict, Field, model_validator
from starlette.requests import Request
from starlette.routing import Route

from studio.records import BulkAction, PairFilter, PairQuery, PairSort, Project, Triage, VerdictValue
from studio.store import NotFoundError, Store
from studio.ui.bulk_words import action_words, query_words, triage_words
from studio.ui.care_gate import Gate
from studio.ui.curation import LARGEST_PAGE, pair_facts
from studio.ui.json_routes import ForbiddenError, Name, RowId, json_get, json_post
from studio.ui.viewer import viewer_of
from studio.ui.words import ago

MOST_CHOSEN = 20_000  # pairs picked one by one
LARGEST_BODY = 4 << 20
SHOWN = 12  # pairs of each verdict in a preview
Score = float | None


class _Asked(BaseModel):
    model_config = ConfigDict(extra="forbid")


class Which(_Asked):
    """A filter of the grid, its order, and the thresholds of the triage."""

    reviewer: str = Field("", max_length=60)
    shows: PairFilter = "undecided"
    sort: PairSort = "made"
    reverse: bool = False
    prompts: str = ""
    words: str = Field("", max_length=200)
    by: str = Field("", max_length=60)
    unsafe_from: Score = None
    unsafe_to: Score = None
    safe_from: Score = None
    safe_to: Score = None
    distance_from: Score = None
    distance_to: Score = None
    tries_from: Score = None
    tries_to: Score = None
    accept_unsafe: Score = None
    accept_safe: Score = None
    accept_distance: Score = None
    reject_unsafe: Score = None
    reject_safe: Score = None
    reject_distance: Score = None
    proposal: Literal["", "accept", "reject", "none"] = ""

    @property
    def triage(self) -> Triage:
        return Triage(**{name: getattr(self, name) for name in asdict(Triage())})

    def query(self, until: float | None = None) -> PairQuery:
        return PairQuery(
            self.shows,
            self.sort,
            self.prompts,
            self.reviewer.strip(),
            self.reverse,
            self.by,
            self.words.strip(),
            (self.unsafe_from, self.unsafe_to),
            (self.safe_from, self.safe_to),
            (self.distance_from, self.distance_to),
            (self.tries_from, self.tries_to),
            until,
            triage=self.triage,
            proposal=self.proposal,
        )


class GridAsked(Which):
    """A page of it."""

    after: str = ""
    before: str = ""
    limit: int = Field(60, ge=1, le=LARGEST_PAGE)


class ActionAsked(_Asked):
    """One decision about pairs that were picked, with the versions that were seen, or about all of a filter.

    "triage" accepts and rejects what the filter's thresholds propose.
    """

    verdict: Literal["accept", "reject", "skip", "triage"]
    reason: str = Field("", max_length=200)
    reviewer: Name
    pairs: dict[str, str] = Field({}, max_length=MOST_CHOSEN)
    which: Which | None = None

    @model_validator(mode="after")
    def _one_way(self) -> ActionAsked:
        if (self.which is None) == (not self.pairs):
            raise ValueError("name pairs or a filter, and not both")
        if self.verdict == "triage" and (self.which is None or self.which.triage == Triage()):
            raise ValueError("a triage needs a filter with a threshold")
        return self

    def parts(self, until: float | None) -> Iterator[tuple[VerdictValue, str, PairQuery]]:
        """The verdicts to give, why, and to which pairs."""
        if self.which is None:
            assert self.verdict != "triage"
            yield self.verdict, self.reason, PairQuery("all", viewer=self.reviewer, ids=tuple(self.pairs))
            return
        query = replace(self.which.query(until), viewer=self.reviewer)
        if self.verdict != "triage":
            yield self.verdict, self.reason or query_words(query), query
            return
        for verdict in ("reject", "accept"):
            part = replace(query, proposal=verdict)
            if query.proposal in ("", verdict):
                yield verdict, triage_words(self.which.triage, verdict), part


class ActionTold(ActionAsked):
    """The action as it was previewed."""

    id: RowId
    until: float | None = None


class UndoAsked(_Asked):
    action: RowId
    reviewer: Name


def bulk_routes(store: Store, gate: Gate | None = None) -> list[Route]:
    """What launch() adds to Gradio's application."""
    grid = Grid(store, gate or Gate(store))
    base = "/studio/bulk/{project}"
    return [
        json_get(f"{base}/pairs", grid.page),
        json_get(f"{base}/numbers", grid.numbers),
        json_get(f"{base}/actions", grid.actions),
        json_post(f"{base}/preview", grid.preview, LARGEST_BODY),
        json_post(f"{base}/apply", grid.apply, LARGEST_BODY),
        json_post(f"{base}/undo", grid.undo),
    ]


class Grid:
    """Answers the routes."""

    def __init__(self, store: Store, gate: Gate) -> None:
        self.store, self.gate = store, gate

    def page(self, request: Request) -> dict[str, Any]:
        """A page in the filter's order, each pair with what the thresholds propose; "more" tells whether it goes on."""
        project, asked = self._project(request), GridAsked.model_validate(dict(request.query_params))
        query = asked.query()
        sight = self.gate.look(project, query.viewer)
        found = self.store.page_of_pairs(
            project.id, query, after=asked.after, before=asked.before, limit=asked.limit + 1
        )
        more = len(found) > asked.limit
        kept = found[more:] if asked.before else found[: asked.limit]
        triage = asked.triage
        pairs = [{**pair_facts(project, one, sight), "proposal": triage.proposes(one.pair)} for one in kept]
        return {"pairs": pairs, "more": more}

    def numbers(self, request: Request) -> dict[str, Any]:
        project, which = self._project(request), Which.model_validate(dict(request.query_params))
        query = which.query()
        self.gate.pass_notice(project, query.viewer)
        mark, everybody = self.store.pairs_mark(project.id), self.store.deciders(project.id)
        answer: dict[str, Any] = {"mark": mark, "reviewers": everybody}
        if which.triage == Triage():
            return {**answer, "match": self.store.count_pairs(project.id, query), "proposals": None}
        proposals = self.store.count_proposals(project.id, query)
        return {**answer, "match": sum(proposals.values()), "proposals": proposals}

    def preview(self, request: Request, body: bytes) -> dict[str, Any]:
        """What `apply` would do now, and `until`, to be sent with it."""
        project, asked = self._project(request), ActionAsked.model_validate_json(body)
        sight = self.gate.look(project, asked.reviewer)
        until = time.time()
        parts = []
        for verdict, reason, query in asked.parts(until if asked.which else None):
            deciders = self.store.count_deciders(project.id, query)
            first = self.store.page_of_pairs(project.id, query, limit=SHOWN)
            part = {"verdict": verdict, "reason": reason, "number": sum(deciders.values())}
            replaced = {name: number for name, number in deciders.items() if name}
            parts.append({**part, "replaces": replaced, "first": [pair_facts(project, one, sight) for one in first]})
        return {"parts": parts, "until": until}

    def apply(self, request: Request, body: bytes) -> dict[str, Any]:
        project, told = self._project(request), ActionTold.model_validate_json(body)
        self.gate.look(project, told.reviewer)
        self.gate.sign(project, told.reviewer)
        parts = list(told.parts(told.until if told.which else None))
        what = {"verdict": told.verdict, "words": action_words(told.verdict, parts, len(told.pairs))}
        action = self.store.begin_bulk(BulkAction(told.id, project.id, told.reviewer, what))
        for verdict, reason, query in parts:
            if told.which is None:
                self.store.decide_pairs(action, verdict, reason, told.pairs)
            else:
                self.store.decide_query(action, verdict, reason, query)
        return {"action": self._facts([self.store.finish_bulk(action.id)])[0]}

    def undo(self, request: Request, body: bytes) -> dict[str, Any]:
        project, told = self._project(request), UndoAsked.model_validate_json(body)
        self.gate.pass_notice(project, told.reviewer)
        action = self.store.get_bulk(told.action)
        if action.project_id != project.id:
            raise NotFoundError(f"The action {told.action!r} is not one of project {project.name!r}.")
        if action.reviewer != told.reviewer and not viewer_of(request).is_owner:
            raise ForbiddenError(f"{action.reviewer} did this: {action.reviewer} or the owner can take it back.")
        number = self.store.undo_bulk(action.id)
        return {"undone": number, "action": self._facts([self.store.get_bulk(action.id)])[0]}

    def actions(self, request: Request) -> dict[str, Any]:
        project = self._project(request)
        self.gate.pass_notice(project, viewer_of(request).name)  # the words of an action may hold a prompt's
        return {"actions": self._facts(self.store.list_bulk(project.id))}

    def _facts(self, actions: list[BulkAction]) -> list[dict[str, Any]]:
        sizes = self.store.bulk_sizes([action.id for action in actions])
        return [
            {
                "id": action.id,
                "by": action.reviewer,
                "words": action.what["words"],
                "sizes": sizes[action.id],
                "done": action.done,
                "undone": action.undone,
                "when": ago(action.created),
            }
            for action in actions
        ]

    def _project(self, request: Request) -> Project:
        return self.store.get_project(request.path_params["project"])
