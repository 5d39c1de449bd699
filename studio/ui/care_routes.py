"""Care for reviewers: the notice, how pictures are shown, breaks and limits. JSON over HTTP, and nothing of any pair.

GET  /studio/care/<project>             how the visitor stands; for the owner also the rules and everybody's day
POST /studio/care/<project>/agree       to the notice, in the version that was read
POST /studio/care/<project>/settings    how this reviewer looks, in every project
POST /studio/care/<project>/sign        the reviewer is there
POST /studio/care/<project>/break       a break that is over, or put off
POST /studio/care/<project>/rules       what the owner adds to the notice, and a day's limits for everybody
POST /studio/care/<project>/more        the owner's word that a reviewer may go on today
"""

from __future__ import annotations

from typing import Annotated, Any, Literal

from pydantic import BaseModel, ConfigDict, Field, StringConstraints
from starlette.requests import Request
from starlette.routing import Route

from studio.care import MOST_MINUTES, MOST_PAIRS, Care, notice_version
from studio.records import CareDay, Project
from studio.store import Store, StoreError
from studio.ui.care_gate import Gate, ended
from studio.ui.json_routes import Name, json_get, json_post
from studio.ui.viewer import owner_alone, viewer_of

Minutes = Annotated[float, Field(ge=0, le=MOST_MINUTES)]
Pairs = Annotated[int, Field(ge=0, le=MOST_PAIRS)]


class _Told(BaseModel):
    model_config = ConfigDict(extra="forbid")

    reviewer: Name


class AgreeTold(_Told):
    version: str


class SettingsTold(_Told):
    blur: Literal["light", "strong", "strongest"]
    reveal: Literal["hold", "press", "always"]
    grey: bool
    small: bool
    break_minutes: Minutes
    day_minutes: Minutes
    day_pairs: Pairs


class BreakTold(_Told):
    later: bool = False


class RulesTold(_Told):
    notice: Annotated[str, StringConstraints(strip_whitespace=True, max_length=4000)] = ""
    day_minutes: Minutes
    day_pairs: Pairs


def care_routes(store: Store, gate: Gate) -> list[Route]:
    """What launch() adds to Gradio's application."""
    desk = CareDesk(store, gate)
    base = "/studio/care/{project}"
    return [
        json_get(base, desk.stand),
        json_post(f"{base}/agree", desk.agree),
        json_post(f"{base}/settings", desk.settings),
        json_post(f"{base}/sign", desk.sign),
        json_post(f"{base}/break", desk.take_break),
        json_post(f"{base}/rules", desk.rules),
        json_post(f"{base}/more", desk.more, names_another=True),
    ]


class CareDesk:
    """Answers the routes."""

    def __init__(self, store: Store, gate: Gate) -> None:
        self.store, self.gate = store, gate

    def stand(self, request: Request) -> dict[str, Any]:
        project, viewer = self._project(request), viewer_of(request)
        return self._stand(project, viewer.name, owner=viewer.is_owner)

    def agree(self, request: Request, body: bytes) -> dict[str, Any]:
        project, told = self._project(request), AgreeTold.model_validate_json(body)
        version = notice_version(project.concept, project.notice)
        if not project.is_sensitive:
            raise StoreError(f"The project {project.name!r} is not sensitive: it has no notice to agree to.")
        if told.version != version:
            raise StoreError("The notice was changed since you read it. Reload the page and read it again.")
        self.store.agree(project.id, told.reviewer, version)
        return {"care": self.gate.state(project, told.reviewer)}

    def settings(self, request: Request, body: bytes) -> dict[str, Any]:
        project, told = self._project(request), SettingsTold.model_validate_json(body)
        for limit, own, what in (
            (project.day_minutes, told.day_minutes, "minutes"),
            (project.day_pairs, told.day_pairs, "pairs"),
        ):
            if limit and own > limit:
                raise StoreError(f"The project's limit is {limit:g} {what} a day: you can set less, not {own:g}.")
        self.store.set_care(told.reviewer, Care(**told.model_dump(exclude={"reviewer"})))
        return {"care": self.gate.state(project, told.reviewer)}

    def sign(self, request: Request, body: bytes) -> dict[str, Any]:
        project, told = self._project(request), _Told.model_validate_json(body)
        self.gate.look(project, told.reviewer)
        self.gate.sign(project, told.reviewer)
        return {"care": self.gate.state(project, told.reviewer)}

    def take_break(self, request: Request, body: bytes) -> dict[str, Any]:
        project, told = self._project(request), BreakTold.model_validate_json(body)
        if told.later and self.gate.has_postponed(project, told.reviewer):
            raise StoreError("A break can be put off once. Look away for a moment, then go on.")
        now = self.gate.clock()
        self.store.note_break(project.id, told.reviewer, self.gate.today(), now, later=told.later)
        return {"care": self.gate.state(project, told.reviewer)}

    def rules(self, request: Request, body: bytes) -> dict[str, Any]:
        project, told = self._owned(request, "set the rules"), RulesTold.model_validate_json(body)
        changes = told.model_dump(exclude={"reviewer"})
        return self._stand(self.store.update_project(project.id, **changes), told.reviewer, owner=True)

    def more(self, request: Request, body: bytes) -> dict[str, Any]:
        project, told = self._owned(request, "let somebody go on today"), _Told.model_validate_json(body)
        self.store.add_session(project.id, told.reviewer, self.gate.today())
        return self._stand(project, viewer_of(request).name, owner=True)

    def _stand(self, project: Project, name: str, *, owner: bool) -> dict[str, Any]:
        stand: dict[str, Any] = {"care": self.gate.state(project, name), "owner": owner}
        if owner:
            days = self.store.care_days(project.id, self.gate.today())
            stand["rules"] = {
                "notice": project.notice, "day_minutes": project.day_minutes, "day_pairs": project.day_pairs,
            }  # fmt: skip
            stand["days"] = [self._row(project, day) for day in days]
        return stand

    def _row(self, project: Project, day: CareDay) -> dict[str, Any]:
        care, _ = self.store.care_of(project.id, day.reviewer, self.gate.today(), self.gate.otherwise)
        return {
            "reviewer": day.reviewer,
            "minutes": round(day.seconds / 60),
            "pairs": day.pairs,
            "ended": bool(ended(project, care, day)),
        }

    def _owned(self, request: Request, what: str) -> Project:
        owner_alone(request, what)
        return self._project(request)

    def _project(self, request: Request) -> Project:
        return self.store.get_project(request.path_params["project"])
