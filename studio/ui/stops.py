"""Stop what may be illegal, from the Curate tab: the dialogs and the routes behind them. See `studio.stopping`.

POST /studio/curation/<project>/stop     hides a pair from everyone; the visitor must have confirmed it
POST /studio/curation/<project>/lift     shows it again, with a reason; for the owner alone
GET  /studio/curation/<project>/stops    what was stopped and lifted, by whom and why; never a picture
GET  /studio/curation/<project>/forget   tells the browser to empty its cache, in which pictures may lie
"""

from __future__ import annotations

from datetime import datetime
from typing import Annotated, Any, Literal

from pydantic import BaseModel, ConfigDict, Field, StringConstraints
from starlette.requests import Request
from starlette.responses import Response
from starlette.routing import Route

from studio.records import PairStop
from studio.settings import Settings
from studio.stopping import CONTACTS, NO_ADVICE, STEPS, lift_stop, stop_pair, trained_on
from studio.store import NotFoundError, Store, StoreError
from studio.ui.json_routes import Name, RowId, json_get, json_post
from studio.ui.viewer import viewer_of
from studio.ui.words import escape

Reason = Annotated[str, StringConstraints(strip_whitespace=True, max_length=500)]


class StopTold(BaseModel):
    """A pair that may be illegal, as it was seen."""

    model_config = ConfigDict(extra="forbid")

    id: RowId
    pair: str
    version: str
    reviewer: Name
    reason: Reason = ""
    confirmed: Literal[True]


class LiftTold(BaseModel):
    """A stopped pair that everybody may see again."""

    model_config = ConfigDict(extra="forbid")

    id: RowId
    pair: str
    reviewer: Name
    reason: Reason = Field(min_length=1)
    confirmed: Literal[True]


def stop_routes(settings: Settings, store: Store) -> list[Route]:
    """What launch() adds to Gradio's application."""

    def stop(request: Request, body: bytes) -> dict[str, Any]:
        told = StopTold.model_validate_json(body)
        project_id = _project_of(store, request, told.pair)
        row = PairStop(told.id, told.pair, "stop", told.reviewer, told.reason)
        stop_pair(store, settings, row, told.version)
        return {"stopped": store.pair_counts(project_id).stopped}

    def lift(request: Request, body: bytes) -> dict[str, Any]:
        told = LiftTold.model_validate_json(body)
        project_id = _project_of(store, request, told.pair)
        if not viewer_of(request).is_owner:
            raise StoreError(OWNER_ALONE)
        lift_stop(store, settings, PairStop(told.id, told.pair, "lift", told.reviewer, told.reason))
        return {"stopped": store.pair_counts(project_id).stopped, "hidden": store.is_stopped(told.pair)}

    def stops(request: Request) -> dict[str, Any]:
        project_id = store.get_project(request.path_params["project"]).id
        standing = {row.id for row in store.standing_stops(project_id)}
        rows = [_facts(store, project_id, row, row.id in standing) for row in store.list_stops(project_id)]
        hidden = store.pair_counts(project_id).stopped
        return {"rows": rows[::-1], "hidden": hidden, "may_lift": viewer_of(request).is_owner}

    def forget(request: Request) -> Response:
        return Response(status_code=204, headers={"Clear-Site-Data": '"cache"', "Cache-Control": "no-store"})

    base = "/studio/curation/{project}"
    return [
        json_post(f"{base}/stop", stop),
        json_post(f"{base}/lift", lift),
        json_get(f"{base}/stops", stops),
        Route(f"{base}/forget", forget, methods=["GET"]),
    ]


def _project_of(store: Store, request: Request, pair_id: str) -> str:
    """The id of the project that is asked about. Raises NotFoundError where the pair is not one of its own."""
    project = store.get_project(request.path_params["project"])
    if not store.has_pair(project.id, pair_id):
        raise NotFoundError(f"The pair {pair_id!r} is not one of project {project.name!r}.")
    return project.id


OWNER_ALONE = (
    "Only the owner of the studio can lift a stop: on the machine that it runs on, here or with "
    "`python -m studio stopped lift`."
)


def _facts(store: Store, project_id: str, row: PairStop, stands: bool) -> dict[str, Any]:
    return {
        "pair": row.pair_id,
        "action": row.action,
        "by": row.reviewer,
        "reason": row.reason,
        "when": datetime.fromtimestamp(row.created).isoformat(sep=" ", timespec="minutes"),
        "stands": stands and row.action == "stop",
        "models": trained_on(store, project_id, row.pair_id) if stands else [],
    }


def stop_dialogs() -> str:
    """The question before a stop, and what the owner must do after it."""
    return (
        '<dialog class="cur-dialog" data-is="stop" aria-labelledby="cur-stop-title">'
        '<h3 id="cur-stop-title">Stop: this may be illegal</h3>'
        "<p>For pictures that it may be a crime to have or to show, such as pictures of the abuse of a child. For all "
        "else there is Reject, and you may skip whatever you do not want to judge.</p>"
        "<p>The pair is hidden from everyone at once, also from you: lists, pictures, training and exports leave it "
        "out. Its files stay as they are. The owner is told what to do, and can lift the stop with a reason. Your name "
        "and the time go into the audit log.</p>"
        '<label class="cur-field">What the owner should know (need not be said)'
        '<input data-is="stop-reason" maxlength="500" autocomplete="off"></label>'
        '<label class="cur-check"><input type="checkbox" data-is="stop-sure"> Yes, hide this pair from everyone</label>'
        '<p class="cur-wrong" data-is="stop-wrong" role="alert"></p>'
        '<div class="cur-moves"><button type="button" data-do="cancel-stop" autofocus>Cancel</button>'
        '<button type="button" class="is-stop" data-do="stop-it" disabled>Stop this pair</button></div></dialog>'
        '<dialog class="cur-dialog" data-is="stops" aria-labelledby="cur-stops-title">'
        f'<h3 id="cur-stops-title" tabindex="-1" autofocus>Pairs that may be illegal</h3>{guidance()}'
        '<h4>What was stopped and lifted</h4><div data-is="stop-rows"></div>'
        '<p class="cur-wrong" data-is="stops-said" role="status"></p>'
        '<div class="cur-moves"><button type="button" data-do="close-stops">Close</button></div></dialog>'
    )


def guidance() -> str:
    """What the owner of the studio must do, and whom to turn to."""
    steps = "".join(f"<li>{escape(step)}</li>" for step in STEPS)
    contacts = "".join(
        f"<div><dt>{escape(where)}</dt><dd>{_contact(who, address)}</dd></div>" for where, who, address in CONTACTS
    )
    return (
        f'<h4>What the owner must do</h4><ol class="cur-steps">{steps}</ol>'
        f'<h4>Whom to turn to about suspected pictures of child abuse</h4><dl class="cur-contacts">{contacts}</dl>'
        f'<p class="cur-quiet">{escape(NO_ADVICE)}</p>'
    )


def _contact(who: str, address: str) -> str:
    if not address:
        return escape(who)
    return f'<a href="{escape(address)}" target="_blank" rel="noreferrer noopener">{escape(who)}</a>'
