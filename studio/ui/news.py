"""Whether anything that a project's page shows has changed: GET /studio/news/<project> answers {"mark", "server"}.

Every open page asks again and again. Only where the mark is not that of what it shows does it have Gradio compare part
by part, which costs the server ten times as much as this answer. `server` names this process: a page that outlived it
loads itself again, since Gradio keeps what a page has seen in the process's memory.
"""

from __future__ import annotations

import hashlib
import secrets
from collections.abc import Callable
from typing import Any

from starlette.requests import Request
from starlette.routing import Route

from studio.ui.json_routes import json_get

Shown = Callable[[str], list[Any]]  # what each part of the page shows of a project; raises NotFoundError


class News:
    """Answers the route."""

    def __init__(self, shown: Shown) -> None:
        self._shown = shown
        self._server = secrets.token_hex(4)

    def mark(self, project_id: str) -> str:
        """Another one whenever a part of the page has become another one."""
        return hashlib.sha256(repr(self._shown(project_id)).encode()).hexdigest()[:16]

    def answer(self, request: Request) -> dict[str, Any]:
        return {"mark": self.mark(request.path_params["project"]), "server": self._server}

    def routes(self) -> list[Route]:
        return [json_get("/studio/news/{project}", self.answer)]
