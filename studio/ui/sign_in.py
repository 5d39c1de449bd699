"""The page on which one signs in, and the routes behind it. Plain HTML: it is sent to strangers, and needs no script.

GET  /studio/sign-in           the form
POST /studio/sign-in           name and password; a cookie for DAYS days
POST /studio/sign-out
GET  /studio/oauth/start       to Hugging Face
GET  /studio/oauth/callback    and back
"""

from __future__ import annotations

from typing import Any
from urllib.parse import parse_qs, urlsplit

from starlette.concurrency import run_in_threadpool
from starlette.requests import Request
from starlette.responses import HTMLResponse, RedirectResponse, Response
from starlette.routing import Route

from studio.hosting import oauth
from studio.hosting.door import Door
from studio.hosting.exposure import is_loopback
from studio.hosting.limits import Pace
from studio.hosting.roles import Viewer
from studio.hosting.sessions import DAYS, NAME, SESSION, STATE, STATE_SECONDS, Session
from studio.ui.theme import COLOURS
from studio.ui.viewer import viewer_of
from studio.ui.words import escape

TRIES = (1 / 15, 5)  # wrong passwords from one address: one in 15 s, 5 at once
NAME_TRIES = (1 / 5, 50)  # and for one name from anywhere: more, so that strangers do not keep a user out
WRONG = "Name and password do not go together."
_STYLE = """
body { margin: 0; min-height: 100vh; display: grid; place-items: center; background: var(--duo-page);
  color: var(--duo-ink); font: 16px/1.5 system-ui, sans-serif; }
main { box-sizing: border-box; width: min(380px, calc(100vw - 32px)); padding: 28px; border-radius: 14px;
  background: var(--duo-panel); border: 1px solid var(--duo-line); }
h1 { margin: 0 0 4px; font-size: 22px; } p { margin: 0 0 18px; color: var(--duo-muted); font-size: 14.5px; }
label { display: block; margin: 14px 0 0; font-size: 14px; }
input { box-sizing: border-box; width: 100%; margin-top: 4px; padding: 10px 12px; border-radius: 8px; font: inherit;
  border: 1px solid var(--duo-line-strong); background: var(--duo-raised); color: var(--duo-ink); }
button, .other { display: block; box-sizing: border-box; width: 100%; margin-top: 20px; padding: 11px;
  border-radius: 8px; border: 0; font: inherit; font-weight: 600; text-align: center; cursor: pointer;
  background: var(--duo-pine); color: var(--duo-on-pine); }
.other { background: transparent; color: var(--duo-pine); border: 1px solid var(--duo-line-strong);
  text-decoration: none; }
.wrong { margin: 14px 0 0; padding: 9px 12px; border-radius: 8px; background: var(--duo-clay-soft);
  color: var(--duo-clay); }
:focus-visible { outline: 2px solid var(--duo-pine); outline-offset: 2px; }
"""
_POLICY = "default-src 'none'; style-src 'unsafe-inline'; form-action 'self' {provider}; base-uri 'none'"


def sign_in_routes(door: Door) -> list[Route]:
    """What launch() adds to Gradio's application."""
    desk = SignInDesk(door)
    return [
        Route("/studio/sign-in", desk.form, methods=["GET"]),
        Route("/studio/sign-in", desk.enter, methods=["POST"]),
        Route("/studio/sign-out", desk.leave, methods=["POST"]),
        Route("/studio/oauth/start", desk.start, methods=["GET"]),
        Route("/studio/oauth/callback", desk.back, methods=["GET"]),
    ]


def account_html(door: Door, viewer: Viewer) -> str:
    """Who is signed in, in the page's header; "" where nobody has to."""
    if viewer.signed_in:
        return (
            f'<form class="duo-account" method="post" action="studio/sign-out"><span><b>{escape(viewer.name)}</b> '
            f'{viewer.role}</span><button type="submit">Sign out</button></form>'
        )
    if not door.has_sign_in:
        demo = door.settings.public_demo and not viewer.is_owner
        return '<div class="duo-account"><span>Public demo: look and draw</span></div>' if demo else ""
    return (
        '<div class="duo-account"><a href="studio/sign-in" title="Without it you may look and draw">Sign in</a></div>'
    )


class SignInDesk:
    """Answers the routes."""

    def __init__(self, door: Door) -> None:
        self.door, self.addresses, self.names = door, Pace(*TRIES), Pace(*NAME_TRIES)

    def form(self, request: Request) -> Response:
        return self._page(request, "")

    async def enter(self, request: Request) -> Response:
        told = parse_qs((await request.body()).decode("utf-8", "replace"), max_num_fields=10)
        name, password = told.get("name", [""])[0].strip()[:60], told.get("password", [""])[0]
        address = viewer_of(request).network
        if wait := self.addresses.wait(address) or self.names.wait(name):
            return self._page(request, f"Too many tries. Wait {wait:.0f} s.", 429)
        user = await run_in_threadpool(self.door.users.check, name, password)
        if user is None:
            return self._page(request, WRONG, 401)
        self.addresses.give_back(address)
        self.names.give_back(name)
        return self._signed_in(request, user.name, self.door.signer.session(Session(user.name, user.stamp)))

    def leave(self, request: Request) -> Response:
        answer = RedirectResponse("sign-in" if self.door.has_sign_in else "../", 303)
        for cookie in (SESSION, NAME):
            answer.delete_cookie(cookie, **self._cookie(request))
        return answer

    def start(self, request: Request) -> Response:
        application = self.door.settings.oauth
        if application is None:
            return self._page(request, "Signing in at Hugging Face is not set up here.", 404)
        address, kept = oauth.begin(application, self._callback(request))
        answer = RedirectResponse(address, 303)
        answer.set_cookie(STATE, self.door.signer.state(kept), STATE_SECONDS, httponly=True, **self._cookie(request))
        return answer

    def back(self, request: Request) -> Response:
        application, query = self.door.settings.oauth, request.query_params
        kept = self.door.signer.read_state(request.cookies.get(STATE, ""))
        if application is None or not kept or kept.get("state") != query.get("state"):
            return self._page(request, "This sign-in was not begun here, or took too long. Begin again.", 400)
        try:
            name = oauth.finish(application, self._callback(request), query.get("code", ""), kept["verifier"])
        except oauth.OAuthError as error:
            return self._page(request, str(error), 401)
        session = self.door.session_of(name)
        if session is None:
            return self._page(request, f"{name} is no user of this studio. Ask its owner to add that name.", 403)
        answer = self._signed_in(request, name, session)
        answer.delete_cookie(STATE, **self._cookie(request))
        return answer

    def _callback(self, request: Request) -> str:
        space = self.door.settings.space
        scheme = "https" if space else request.url.scheme
        root = request.scope.get("root_path", "").rstrip("/")
        return f"{scheme}://{request.url.netloc}{root}/studio/oauth/callback"

    def _signed_in(self, request: Request, name: str, session: str) -> Response:
        root = request.scope.get("root_path", "").rstrip("/")
        answer = RedirectResponse(f"{root}/", 303)
        answer.set_cookie(SESSION, session, DAYS * 86_400, httponly=True, **self._cookie(request))
        # For the page's script: it proves nothing.
        answer.set_cookie(NAME, name, DAYS * 86_400, **self._cookie(request))
        return answer

    def _cookie(self, request: Request) -> dict[str, Any]:
        """A Space is shown within another site's page, where only such cookies are sent. Its own address has TLS,
        though what arrives behind Hugging Face's proxy does not say so.
        """
        secure = request.url.scheme == "https" or urlsplit(request.headers.get("origin", "")).scheme == "https"
        space = bool(self.door.settings.space) and not is_loopback(request.url.hostname or "")
        return {"secure": secure or space, "samesite": "none" if space else "lax", "path": "/"}

    def _page(self, request: Request, wrong: str, status: int = 200) -> Response:
        settings, parts = self.door.settings, []
        if any(user.hash for user in self.door.users.all()):
            parts.append(
                '<form method="post" action="sign-in"><label>Name <input name="name" autocomplete="username" required '
                'maxlength="60" autofocus></label><label>Password <input name="password" type="password" '
                'autocomplete="current-password" required maxlength="200"></label><button>Sign in</button></form>'
            )
        if settings.oauth is not None:
            tab = ' target="_blank"' if settings.space else ""  # Hugging Face's page is shown in no frame
            parts.append(f'<a class="other" href="oauth/start"{tab}>Sign in with Hugging Face</a>')
        if settings.public_demo:
            parts.append('<a class="other" href="../">Go on without signing in</a>')
        told = f'<div class="wrong" role="alert">{escape(wrong)}</div>' if wrong else ""
        text = (
            '<!doctype html><html lang="en"><meta charset="utf-8"><meta name="viewport" content="width=device-width">'
            f"<title>Sign in · DUO Studio</title><style>{_colours()}{_STYLE}</style><main><h1>DUO Studio</h1>"
            f"<p>Sign in to go on.</p>{told}{''.join(parts)}</main></html>"
        )
        provider = settings.oauth.provider if settings.oauth else ""
        policy = _POLICY.format(provider=provider)
        embed = " https://huggingface.co https://*.hf.space" if settings.space else ""
        headers = {"Cache-Control": "no-store", "Content-Security-Policy": f"{policy}; frame-ancestors 'self'{embed}"}
        return HTMLResponse(text, status, headers=headers)


def _colours() -> str:
    light = "".join(f"--duo-{name}:{pair[0]};" for name, pair in COLOURS.items())
    dark = "".join(f"--duo-{name}:{pair[1]};" for name, pair in COLOURS.items())
    return f":root{{color-scheme:light dark;{light}}}@media(prefers-color-scheme:dark){{:root{{{dark}}}}}"
