"""Who asks: name and role, from one place: what the door said (`studio.hosting.door`). Where there is none, in a test
of some routes, it is the typed name and whether the request comes from this machine.
"""

from __future__ import annotations

from starlette.requests import Request

from studio.hosting.door import is_local, typed_name, viewer_in
from studio.hosting.roles import Viewer
from studio.ui.json_routes import ForbiddenError

__all__ = ["Viewer", "is_local", "owner_alone", "viewer_of"]


def viewer_of(request: Request | None) -> Viewer:
    """The visitor that a request comes from; without one, somebody who may nothing."""
    if request is None:
        return Viewer("", "")
    return viewer_in(request.scope) or Viewer(typed_name(request), "owner" if is_local(request) else "reviewer")


def owner_alone(request: Request, what: str) -> None:
    """Raise ForbiddenError, in words that go on with `what`, unless the owner asks."""
    if not viewer_of(request).is_owner:
        raise ForbiddenError(
            f"Only the owner can {what}: who is signed in as such, or opens the page on the machine that it runs on."
        )
