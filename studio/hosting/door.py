"""Who a request comes from: by the session's cookie, or by where it comes from where nobody has to sign in."""

from __future__ import annotations

from ipaddress import ip_address
from typing import Any

from starlette.requests import Request

from studio.hosting.exposure import has_sign_in, is_loopback, is_public_name
from studio.hosting.oauth import is_space_owner
from studio.hosting.roles import KEY, Role, Viewer
from studio.hosting.sessions import SESSION, Session, Signer, secret_of
from studio.hosting.users import Users
from studio.settings import Settings

FORWARDED = ("forwarded", "x-forwarded-for", "x-forwarded-host", "x-real-ip")
SPACE_OWNER = "owner of the Space"  # the stamp of a session that no row of the users' file stands behind


class Door:
    """Tells who stands before it. Safe to share by threads."""

    def __init__(self, settings: Settings, users: Users | None = None) -> None:
        self.settings = settings
        self.users = users or Users(settings.users)
        self.signer = Signer(secret_of(settings.secret))

    @property
    def has_sign_in(self) -> bool:
        return has_sign_in(self.settings, self.users)

    def viewer(self, scope: dict[str, Any]) -> Viewer:
        request = Request(scope)
        address = address_of(request, behind_proxy=bool(self.settings.space))
        if signed := self._signed_in(request.cookies.get(SESSION, "")):
            return Viewer(*signed, signed_in=True, address=address)
        role = self._unsigned(request)
        # A stranger has no name: typed, it might be that of a reviewer who has agreed to a notice.
        typed = typed_name(request) if role in ("reviewer", "owner") else ""
        return Viewer(typed, role, address=address)

    def session_of(self, name: str) -> str | None:
        """The cookie of one who signed in at Hugging Face; None where that name may not."""
        user = self.users.get(name)
        if user is not None and user.hugging_face:
            return self.signer.session(Session(name, user.stamp))
        if is_space_owner(self.settings, name):
            return self.signer.session(Session(name, SPACE_OWNER))
        return None

    def is_strange(self, host: str) -> bool:
        """Whether a browser may say this name since another site lets its own name point here."""
        return is_public_name(host) and host.lower() not in self.settings.hosts

    def _signed_in(self, cookie: str) -> tuple[str, Role] | None:
        session = self.signer.read_session(cookie) if cookie else None
        if session is None:
            return None
        if session.stamp == SPACE_OWNER:
            return (session.name, "owner") if is_space_owner(self.settings, session.name) else None
        user = self.users.get(session.name)
        return (user.name, user.role) if user is not None and user.stamp == session.stamp else None

    def _unsigned(self, request: Request) -> Any:
        if not self.has_sign_in:
            if is_local(request) and is_loopback(request.url.hostname or ""):  # no name that was bent to point here
                return "owner"
            if self.settings.open_to and not self.is_strange(request.url.hostname or ""):
                return self.settings.open_to
        return "viewer" if self.settings.public_demo else ""


def viewer_in(scope: Any) -> Viewer | None:
    """Whom the door let in; None where there is none, as in a test of some routes."""
    return scope.get(KEY)


def typed_name(request: Request) -> str:
    """What somebody who did not sign in is called: the name in the address."""
    return request.query_params.get("reviewer", "").strip()


def is_local(request: Request | None) -> bool:
    """Whether the request comes from this machine itself. Through a proxy everybody's does: none that is forwarded."""
    if request is None or request.client is None or any(name in request.headers for name in FORWARDED):
        return False
    try:
        return ip_address(request.client.host).is_loopback
    except ValueError:
        return False


def address_of(request: Request, *, behind_proxy: bool) -> str:
    """Whose pace this counts for. Of what a Space's proxy says only its own word is believed, which is the last one."""
    if behind_proxy and (said := request.headers.get("x-forwarded-for")):
        return said.rpartition(",")[2].strip()[:64]
    return request.client.host if request.client else ""
