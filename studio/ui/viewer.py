"""Who asks: name and role, from one place, so that a sign-in can be put here.

There is none yet. A name is what the visitor typed, and proves nothing; the owner is whoever opens the page on the
machine that it runs on. Behind a proxy everybody comes from that machine, so a forwarded request is never the owner's.
"""

from __future__ import annotations

from dataclasses import dataclass
from ipaddress import ip_address

from starlette.requests import Request

from studio.ui.json_routes import ForbiddenError

FORWARDED = ("forwarded", "x-forwarded-for", "x-forwarded-host", "x-real-ip")


@dataclass(frozen=True)
class Viewer:
    """One visitor of a project."""

    name: str  # "" where none was told
    is_owner: bool

    def may_see_work_of(self, reviewer: str) -> bool:
        """A reviewer's speed and reveals are that reviewer's and the owner's business."""
        return self.is_owner or (self.name != "" and self.name == reviewer)


def viewer_of(request: Request) -> Viewer:
    """The visitor that a request comes from, whose name is in ?reviewer=."""
    return Viewer(request.query_params.get("reviewer", "").strip(), is_local(request))


def is_local(request: Request | None) -> bool:
    """Whether the request comes from this machine itself."""
    if request is None or request.client is None or any(name in request.headers for name in FORWARDED):
        return False
    try:
        return ip_address(request.client.host).is_loopback
    except ValueError:
        return False


def owner_alone(request: Request, what: str) -> None:
    """Raise ForbiddenError, in words that go on with `what`, unless the owner asks."""
    if not viewer_of(request).is_owner:
        raise ForbiddenError(f"Only the owner can {what}: whoever opens the page on the machine that it runs on.")
