"""The one door that every request comes through, as ASGI: who asks, whether the role is enough, and whether it asks too
much, too fast or too slowly. What no table names is refused.
"""

from __future__ import annotations

import asyncio
import json
import logging
import time
from collections import Counter
from collections.abc import Callable
from contextlib import suppress
from typing import Any
from urllib.parse import parse_qsl, urlencode, urlsplit

from starlette.datastructures import Headers

from studio.hosting.door import Door
from studio.hosting.limits import Pace
from studio.hosting.metrics import Metrics
from studio.hosting.roles import KEY, Need, Viewer, asker, refusal

SAFE = ("GET", "HEAD", "OPTIONS")
SLOWEST = 4096  # bytes a second, on the whole
OWN_SHARE = 4  # one visitor's open requests are at most this part of all connections
SIGN_IN = "/studio/sign-in"
log = logging.getLogger("studio.requests")


class RefusedError(Exception):
    """The answer was already sent."""


class Guard:
    """Middleware around the whole application."""

    def __init__(
        self,
        app: Any,
        *,
        door: Door,
        need: Callable[[str, str], Need],
        largest: Callable[[str], int],
        metrics: Metrics | None = None,
        clock: Callable[[], float] = time.monotonic,
    ) -> None:
        """`need` tells what a method and path take, `largest` how many bytes a path may be sent."""
        limits = door.settings.limits
        self.app, self.door, self.need, self.largest, self.metrics, self.clock = (
            app,
            door,
            need,
            largest,
            metrics,
            clock,
        )
        self.seconds = limits.seconds
        self.most_open = -(-limits.connections // OWN_SHARE)
        self._open: Counter[str] = Counter()  # of each visitor, requests that have not ended
        self.pace = Pace(limits.requests, 10 * limits.requests, clock)
        space = " https://huggingface.co https://*.hf.space" if door.settings.space else ""
        self.headers = [
            (b"x-content-type-options", b"nosniff"),
            (b"referrer-policy", b"same-origin"),
            (b"cross-origin-resource-policy", b"same-origin"),
            (b"content-security-policy", f"frame-ancestors 'self'{space}".encode()),
        ]

    async def __call__(self, scope: Any, receive: Any, send: Any) -> None:
        if scope["type"] == "websocket":
            await send({"type": "websocket.close", "code": 1008})
            return
        if scope["type"] != "http":
            await self.app(scope, receive, send)
            return
        exchange = Exchange(self, scope, receive, send)
        viewer = await asyncio.to_thread(self.door.viewer, scope)
        token = asker.set(viewer)
        self._open[viewer.key] += 1
        try:
            await self._answer(exchange, viewer)
        except RefusedError:
            pass
        finally:
            asker.reset(token)
            self._open[viewer.key] -= 1
            if not self._open[viewer.key]:
                del self._open[viewer.key]
            self._note(exchange, viewer)

    async def _answer(self, exchange: Exchange, viewer: Viewer) -> None:
        scope, method = exchange.scope, exchange.scope["method"]
        path = path_of(scope)
        if wait := self._wait(viewer):
            await exchange.refuse(429, "Too many requests. Wait a moment.", [("retry-after", str(round(wait + 1)))])
        if 0 < self.most_open < self._open[viewer.key] and not (viewer.is_owner and not viewer.signed_in):
            await exchange.refuse(429, f"You have {self.most_open} open requests here, which are the most.",
                                  [("retry-after", "5")])  # fmt: skip
        if "\0" in path:
            await exchange.refuse(404, "There is no such file.")
        need = self.need("GET" if method == "HEAD" else method, path)
        if not viewer.may(need):
            await self._turn_away(exchange, viewer, need)
        headers = Headers(scope=scope)
        if why := read_elsewhere(headers) if method in SAFE else from_elsewhere(headers):
            await exchange.refuse(403, why)
        try:
            announced = int(headers.get("content-length") or 0)
        except ValueError:
            announced = 0
        exchange.largest = self.largest(path)
        if announced > exchange.largest:
            await exchange.refuse(413, f"The request has {announced:,} bytes; {exchange.largest:,} are the most.")
        scope[KEY] = viewer
        if (viewer.signed_in or viewer.role == "viewer") and path.startswith("/studio/"):
            scope["query_string"] = under_own_name(scope["query_string"], viewer.name)
        await self.app(scope, exchange.receive, exchange.send)

    def _wait(self, viewer: Viewer) -> float:
        """Seconds; whoever sits at this machine never waits."""
        return 0.0 if viewer.is_owner and not viewer.signed_in else self.pace.wait(viewer.key)

    async def _turn_away(self, exchange: Exchange, viewer: Viewer, need: Need) -> None:
        if need == "nobody":
            await exchange.refuse(404, refusal(viewer, need))
        if viewer.role:
            await exchange.refuse(403, refusal(viewer, need))
        host = Headers(scope=exchange.scope).get("host", "")
        if not self.door.has_sign_in and self.door.settings.open_to:
            await exchange.refuse(
                403,
                f"This studio is open to whoever reaches it by its address, not by the name {host[:200]!r}, which may "
                "be another site's. If it is this studio's own, set DUO_STUDIO_HOSTS to it, without the port.",
            )
        if not self.door.has_sign_in:
            await exchange.refuse(
                403,
                "This studio has nobody who could sign in, so it answers its own machine alone. On that machine: "
                "python -m studio users add NAME --role owner, or set DUO_STUDIO_OPEN.",
            )
        if exchange.scope["method"] in ("GET", "HEAD") and "text/html" in Headers(scope=exchange.scope).get(
            "accept", ""
        ):
            root = exchange.scope.get("root_path", "").rstrip("/")
            await exchange.refuse(303, "Sign in first.", [("location", f"{root}{SIGN_IN}")])
        await exchange.refuse(401, refusal(viewer, need))

    def _note(self, exchange: Exchange, viewer: Viewer) -> None:
        seconds, path = self.clock() - exchange.started, path_of(exchange.scope)
        if self.metrics is not None:
            self.metrics.request(exchange.scope["method"], path, exchange.status, seconds)
        facts = {
            "method": exchange.scope["method"], "path": path, "status": exchange.status,
            "milliseconds": round(1000 * seconds, 1), "role": viewer.role or "none",
        }  # fmt: skip
        level = logging.WARNING if exchange.status in (401, 403, 408, 413, 429) else logging.DEBUG
        log.log(level, "%s %s %s", facts["method"], path, exchange.status, extra={"facts": facts})


class Exchange:
    """One request and its answer: counts what comes, and holds back what the application says after a refusal."""

    def __init__(self, guard: Guard, scope: Any, receive: Any, send: Any) -> None:
        self.guard, self.scope = guard, scope
        self._receive, self._send = receive, send
        self.largest = self.received = 0
        self.whole = self.begun = self.refused = False
        self.status = 499  # of a client that left
        self.started = guard.clock()

    async def receive(self) -> Any:
        """The next part of the body, in time and not too much; afterwards whatever comes, however late."""
        if self.whole or not self.guard.seconds:
            return await self._receive()
        left = self.started + self.guard.seconds + self.received / SLOWEST - self.guard.clock()
        try:
            message = await asyncio.wait_for(self._receive(), max(0.0, min(left, self.guard.seconds)))
        except TimeoutError:
            await self.refuse(408, "The request came too slowly. Send it again.")
            raise
        if message["type"] == "http.request":
            self.received += len(message.get("body", b""))
            self.whole = not message.get("more_body", False)
            if self.received > self.largest:
                await self.refuse(413, f"More than {self.largest:,} bytes came, which are the most.")
        else:
            self.whole = True
        return message

    async def send(self, message: Any) -> None:
        if self.refused:
            return
        if message["type"] == "http.response.start":
            self.begun, self.status = True, message["status"]
            named = {name.lower() for name, _ in message.get("headers", ())}
            own = [(name, value) for name, value in self.guard.headers if name not in named]
            message = {**message, "headers": [*message.get("headers", ()), *own]}
        await self._send(message)

    async def refuse(self, status: int, why: str, headers: list[tuple[str, str]] | None = None) -> None:
        """Answer with {"error": why} and raise RefusedError. The connection ends, since a body may still be coming."""
        if not self.begun:
            body = json.dumps({"error": why}).encode()
            told = [(name.encode(), value.encode()) for name, value in headers or []]
            told += [(b"content-type", b"application/json"), (b"cache-control", b"no-store"), *self.guard.headers]
            told += [(b"content-length", str(len(body)).encode())]
            if status in (408, 413):
                told.append((b"connection", b"close"))
            body = b"" if self.scope["method"] == "HEAD" else body
            self.status = status
            with suppress(OSError):
                await self._send({"type": "http.response.start", "status": status, "headers": told})
                await self._send({"type": "http.response.body", "body": body})
        self.refused = True
        raise RefusedError


def path_of(scope: Any) -> str:
    """The path within the application, without what a proxy put before it."""
    path, root = scope["path"], scope.get("root_path", "").rstrip("/")
    return path[len(root) :] if root and path.startswith(f"{root}/") else path


def under_own_name(query: bytes, name: str) -> bytes:
    """A query in which ?reviewer= is the one who signed in, or nobody, whatever was typed."""
    others = [(key, value) for key, value in parse_qsl(query.decode("latin-1"), keep_blank_values=True)
              if key != "reviewer"]  # fmt: skip
    return urlencode([*others, ("reviewer", name)]).encode()


def from_elsewhere(headers: Headers) -> str:
    """Why a change that another site's page asks for is refused; "" for the studio's own page and for programs.

    A browser says where a request comes from: in Sec-Fetch-Site, or to an address without TLS only in Origin.
    """
    site, origin = headers.get("sec-fetch-site"), headers.get("origin")
    if site is not None:
        return "" if site == "same-origin" else f"This request comes from another site ({site}). Use the studio's page."
    if origin is not None and urlsplit(origin).netloc != headers.get("host"):
        return f"This request comes from {origin}. Use the studio's own page."
    return ""


def read_elsewhere(headers: Headers) -> str:
    """Why an answer that another site's script would read is refused; "" for all others.

    Gradio lets every site read what is not asked of "localhost" or 127.0.0.1, with the visitor's cookies: also of [::1]
    and of x.localhost, which browsers take for this machine. A browser names the origin of such a request; it names
    none of a picture, a link or a page that is opened.
    """
    origin, site = headers.get("origin"), headers.get("sec-fetch-site")
    if origin is None or site in ("same-origin", "none"):
        return ""
    return from_elsewhere(headers)
