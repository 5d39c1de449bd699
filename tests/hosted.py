"""The page as `app.py` serves it, in this process, and visitors who come from here or from far away."""

from __future__ import annotations

import json
import secrets
import socket
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass, replace
from typing import Any

import gradio as gr
import httpx
from argon2 import PasswordHasher
from gradio.context import LocalContext
from starlette.requests import Request

from studio.hosting.roles import KEY, Viewer
from studio.hosting.users import Users
from studio.inference.client import InferenceClient
from studio.jobs import Runner
from studio.settings import Settings
from studio.store import Store
from studio.ui import build_ui, launch_options
from studio.ui.roles import handler_name

PASSWORD = "a long enough password"
FAR_AWAY = "203.0.113.9"


@dataclass
class Hosted:
    """A page that answers."""

    url: str
    page: gr.Blocks
    settings: Settings
    store: Store

    def visitor(self, address: str = FAR_AWAY, **headers: str) -> httpx.Client:
        """Somebody who comes through a proxy, or with "" from this machine."""
        came = {"X-Forwarded-For": address} if address else {}
        return httpx.Client(base_url=self.url, headers={**came, **headers}, timeout=30)

    def signed_in(self, name: str) -> httpx.Client:
        visitor = self.visitor(f"203.0.113.{10 + len(name)}")
        answer = visitor.post("/studio/sign-in", data={"name": name, "password": PASSWORD})
        assert answer.status_code == 303, answer.text
        return visitor

    def listener(self, name: str) -> int:
        """Gradio's number of a handler, by its name in the table of roles."""
        return next(n for n, one in self.page.fns.items() if one.fn is not None and handler_name(one.fn) == name)

    def raw_call(self, visitor: httpx.Client, number: int, data: list[Any]) -> dict[str, Any]:
        """What a call past the page tells in the end: into Gradio's queue, then its stream of events."""
        session = secrets.token_hex(5)
        asked = {"data": data, "fn_index": number, "session_hash": session}
        joined = visitor.post("/gradio_api/queue/join", json=asked)
        if joined.status_code != 200:
            return {"status": joined.status_code, "told": joined.text}
        with visitor.stream("GET", f"/gradio_api/queue/data?session_hash={session}") as answer:
            for line in answer.iter_lines():
                told = json.loads(line[5:]) if line.startswith("data:") else {"msg": ""}
                if told["msg"] == "process_completed":
                    return told
        return {}


@contextmanager
def hosted(settings: Settings, store: Store) -> Iterator[Hosted]:
    """On a free port of this machine, whatever the settings say. Jobs that are started do nothing."""
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        settings = replace(settings, port=probe.getsockname()[1])
    client = InferenceClient(settings, worker=("-c", "import sys; sys.stdin.read()"))
    page = build_ui(settings, store, Runner(store, settings, worker=("-c", "pass")), client)
    page.launch(quiet=True, prevent_thread_lock=True, **launch_options(settings, store, page.news))
    yield Hosted(page.local_url.rstrip("/"), page, settings, store)
    page.close()
    client.close()


@contextmanager
def asking(viewer: Viewer) -> Iterator[None]:
    """Handlers that are called within the block are called in this visitor's name."""
    scope = {"type": "http", "headers": [], "query_string": b"", KEY: viewer}
    LocalContext.request.set(gr.Request(request=Request(scope)))
    try:
        yield
    finally:
        LocalContext.request.set(None)


def add_users(settings: Settings) -> Users:
    users = Users(settings.users, PasswordHasher(time_cost=1, memory_cost=64))  # as weak as tests are many
    for name, role in (("Ann", "owner"), ("Ben", "reviewer"), ("Cem", "viewer")):
        users.add(name, role, PASSWORD)
    return users
