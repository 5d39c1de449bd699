"""A local stand-in for the Hugging Face hub: as much of its HTTP as sending a folder takes, over git-lfs' own batches.

The real hub takes large files by Xet, through a binary of its own; that is not stood in for.
"""

from __future__ import annotations

import base64
import hashlib
import json
import threading
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path
from typing import Any

import pytest
import yaml
from huggingface_hub import constants as hub_constants

TOKEN = "hf_standinTokenThatNobodyMayRead"


@dataclass
class Repository:
    private: bool
    files: dict[str, bytes] = field(default_factory=dict)
    commits: list[str] = field(default_factory=list)
    states: dict[str, dict[str, bytes]] = field(default_factory=dict)  # the files of each commit
    space: dict[str, Any] = field(default_factory=dict)  # of a Space: sdk, hardware, secrets


@dataclass
class Hub:
    """What the server holds; repositories by owner/name, large contents by their SHA-256."""

    url: str = ""
    repositories: dict[str, Repository] = field(default_factory=dict)
    contents: dict[str, bytes] = field(default_factory=dict)
    asked: list[str] = field(default_factory=list)
    refuse_writing: bool = False  # as with a token that may only read
    more: Callable[[BaseHTTPRequestHandler, str, bytes], bool] | None = None  # answers what this file does not know


def send_to(hub: Hub, monkeypatch: pytest.MonkeyPatch, no_login: Path) -> None:
    """Let this process's huggingface_hub speak to the stand-in, with its token and nobody's login."""
    monkeypatch.setattr(hub_constants, "ENDPOINT", hub.url)
    template = f"{hub.url}/{{repo_id}}/resolve/{{revision}}/{{filename}}"
    monkeypatch.setattr(hub_constants, "HUGGINGFACE_CO_URL_TEMPLATE", template)
    monkeypatch.setattr(hub_constants, "HF_HUB_DISABLE_XET", True)
    monkeypatch.setattr(hub_constants, "HF_TOKEN_PATH", str(no_login))
    monkeypatch.setenv("HF_TOKEN", TOKEN)


@contextmanager
def hub_server() -> Iterator[Hub]:
    hub = Hub()

    class Handler(BaseHTTPRequestHandler):
        protocol_version = "HTTP/1.1"

        def do_GET(self) -> None:
            self.answer_to("GET", b"")

        def do_HEAD(self) -> None:
            self.answer_to("HEAD", b"")

        def do_DELETE(self) -> None:
            self.answer_to("DELETE", self.body())

        def do_POST(self) -> None:
            self.answer_to("POST", self.body())

        def do_PUT(self) -> None:
            self.answer_to("PUT", self.body())

        def body(self) -> bytes:
            if self.headers.get("Transfer-Encoding") != "chunked":
                return self.rfile.read(int(self.headers.get("Content-Length", 0)))
            data = b""
            while size := int(self.rfile.readline(), 16):
                data += self.rfile.read(size)
                self.rfile.readline()
            self.rfile.readline()
            return data

        def answer_to(self, verb: str, body: bytes) -> None:
            hub.asked.append(f"{verb} {self.path}")
            if hub.more is not None and hub.more(self, verb, body):
                return
            signed = self.headers.get("Authorization") == f"Bearer {TOKEN}"
            status, answer = answered(hub, verb, self.path.split("?")[0], body, signed)
            data = json.dumps(answer).encode()
            self.send_response(status)
            if status >= 400:
                self.send_header("X-Error-Message", str(answer.get("error")))
                self.send_header("X-Error-Code", str(answer.get("code", "")))
            self.send_header("Content-Type", "application/json")
            self.send_header("Content-Length", str(len(data)))
            self.end_headers()
            self.wfile.write(data)

        def log_message(self, format: str, *args: Any) -> None:
            pass

    server = ThreadingHTTPServer(("127.0.0.1", 0), Handler)
    hub.url = f"http://127.0.0.1:{server.server_port}"
    thread = threading.Thread(target=server.serve_forever, args=(0.05,), daemon=True)
    thread.start()
    try:
        yield hub
    finally:
        server.shutdown()
        server.server_close()


def answered(hub: Hub, verb: str, path: str, body: bytes, signed: bool) -> tuple[int, Any]:
    """(status, JSON) of one request."""
    parts = path.strip("/").split("/")
    if verb == "PUT" and parts[0] == "upload":
        assert hashlib.sha256(body).hexdigest() == parts[1]
        hub.contents[parts[1]] = body
        return 200, {}
    if not signed:
        return 401, {"error": "Invalid credentials", "code": "RepoNotFound"}
    if path == "/api/repos/create":
        return created(hub, json.loads(body))
    if path == "/api/validate-yaml":  # of a card, before it is committed
        yaml.safe_load(json.loads(body)["content"].split("---")[1])
        return 200, {"errors": [], "warnings": []}
    if parts[:2] in (["api", "models"], ["api", "datasets"], ["api", "spaces"]):
        name = "/".join(parts[2:4])
        repository = hub.repositories.get(name)
        if repository is None:
            return 404, {"error": "Repository not found", "code": "RepoNotFound"}
        rest = parts[4:]
        if not rest or rest[0] in ("revision",):
            about = {"id": name, "private": repository.private, "siblings": [], "sha": "0" * 40, "tags": []}
            return 200, about | {key: repository.space[key] for key in ("sdk",) if key in repository.space}
        if rest[0] == "preupload":
            asked = json.loads(body)["files"]
            modes = [
                ("lfs" if one["path"].endswith((".safetensors", ".parquet")) else "regular", one["path"])
                for one in asked
            ]
            files = [{"path": p, "uploadMode": mode, "shouldIgnore": False, "oid": None} for mode, p in modes]
            return 200, {"files": files}
        if rest[0] == "tree":
            files = repository.states.get(rest[1], repository.files)
            return 200, [{"type": "file", "path": path, "size": 1, "oid": "0" * 40} for path in files]
        if rest[0] == "secrets":
            told = json.loads(body)
            repository.space.setdefault("secrets", {})[told["key"]] = told["value"]
            return 200, {}
        if rest[0] == "hardware":
            repository.space["hardware"] = json.loads(body)["flavor"]
            return 200, {"stage": "BUILDING", "hardware": {"current": None, "requested": "x"}, "storage": None}
        if rest[0] == "commit":
            return committed(hub, name, repository, body)
    if path.endswith(".git/info/lfs/objects/batch"):
        objects = [
            {"oid": one["oid"], "size": one["size"], "actions": {"upload": {"href": f"{hub.url}/upload/{one['oid']}"}}}
            for one in json.loads(body)["objects"]
        ]
        return 200, {"transfer": "basic", "objects": objects}
    return 404, {"error": f"the stand-in does not know {verb} {path}"}


def created(hub: Hub, asked: dict[str, Any]) -> tuple[int, dict[str, Any]]:
    name = f"{asked.get('organization') or 'me'}/{asked['name']}"
    kind = {"dataset": "datasets/", "space": "spaces/"}.get(asked.get("type", ""), "")
    if hub.refuse_writing:
        return 403, {"error": "You don't have the rights to create a model under this namespace"}
    if name in hub.repositories:
        return 409, {"error": "You already created this model repo", "url": f"{hub.url}/{kind}{name}"}
    private = asked.get("private") is True or asked.get("visibility") == "private"
    space = {key: asked[key] for key in ("sdk", "hardware") if key in asked}
    space |= {"secrets": {one["key"]: one["value"] for one in asked["secrets"]}} if "secrets" in asked else {}
    hub.repositories[name] = Repository(private, space=space)
    return 200, {"url": f"{hub.url}/{kind}{name}", "name": name, "id": name}


def committed(hub: Hub, name: str, repository: Repository, body: bytes) -> tuple[int, dict[str, Any]]:
    for line in body.splitlines():
        one = json.loads(line)
        value = one["value"]
        if one["key"] == "header":
            repository.commits.append(value["summary"])
        elif one["key"] == "file":
            repository.files[value["path"]] = base64.b64decode(value["content"])
        elif one["key"] == "lfsFile":
            repository.files[value["path"]] = hub.contents[value["oid"]]
        elif one["key"] == "deletedFile":
            del repository.files[value["path"]]
    sha = hashlib.sha1(body).hexdigest()
    repository.states[sha] = dict(repository.files)
    return 200, {"commitUrl": f"{hub.url}/{name}/commit/{sha}", "commitOid": sha, "success": True}
