"""A server that speaks the Hugging Face Hub's HTTP, as far as pushing a dataset goes; it keeps what it was sent."""

from __future__ import annotations

import base64
import json
import threading
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from typing import Any


@dataclass
class Hub:
    """Datasets by name, and who may write."""

    token: str = "hf_test"
    public: bool = False
    files: dict[str, bytes] = field(default_factory=dict)
    uploads: dict[str, bytes] = field(default_factory=dict)  # large files by their SHA-256
    asked: list[tuple[str, str]] = field(default_factory=list)  # (method, path)
    created: list[dict[str, Any]] = field(default_factory=list)
    url: str = ""


@contextmanager
def running_hub(**how: Any) -> Iterator[Hub]:
    hub = Hub(**how)

    class Handler(_Handler):
        pass

    Handler.hub = hub
    server = ThreadingHTTPServer(("127.0.0.1", 0), Handler)
    hub.url = f"http://127.0.0.1:{server.server_port}"
    thread = threading.Thread(target=server.serve_forever, daemon=True)
    thread.start()
    try:
        yield hub
    finally:
        server.shutdown()
        server.server_close()


class _Handler(BaseHTTPRequestHandler):
    hub: Hub

    def log_message(self, *_: Any) -> None:
        pass

    def answer(self, body: Any, status: int = 200) -> None:
        data = json.dumps(body).encode()
        self.send_response(status)
        self.send_header("Content-Type", "application/json")
        self.send_header("Content-Length", str(len(data)))
        self.end_headers()
        self.wfile.write(data)

    def body(self) -> bytes:
        if self.headers.get("Transfer-Encoding") == "chunked":
            data = b""
            while size := int(self.rfile.readline(), 16):
                data += self.rfile.read(size)
                self.rfile.readline()
            self.rfile.readline()
            return data
        return self.rfile.read(int(self.headers.get("Content-Length") or 0))

    def allowed(self) -> bool:
        if self.headers.get("Authorization") == f"Bearer {self.hub.token}":
            return True
        self.answer({"error": "You don't have the rights to write here."}, 403)
        return False

    def do_GET(self) -> None:
        path = self.path.partition("?")[0]
        self.hub.asked.append(("GET", path))
        if "/tree/" in path:
            self.answer([{"type": "file", "path": name, "size": 1, "oid": "0" * 40} for name in self.hub.files])
        else:
            self.answer({"id": "ann/pairs", "private": not self.hub.public, "sha": "0" * 40, "siblings": []})

    def do_PUT(self) -> None:
        self.hub.uploads[self.path.rpartition("/")[2]] = self.body()
        self.answer({})

    def do_POST(self) -> None:
        path, body = self.path.partition("?")[0], self.body()
        self.hub.asked.append(("POST", path))
        if path == "/api/validate-yaml":
            self.answer({"errors": [], "warnings": []})
        elif not self.allowed():
            return
        elif path == "/api/repos/create":
            self.hub.created.append(json.loads(body))
            self.answer({"url": f"{self.hub.url}/datasets/ann/pairs"})
        elif "/preupload/" in path:
            files = json.loads(body)["files"]
            modes = {True: "lfs", False: "regular"}
            self.answer(
                {"files": [
                    {"path": f["path"], "uploadMode": modes[f["path"].endswith((".parquet", ".png"))],
                     "shouldIgnore": False} for f in files
                ]}
            )  # fmt: skip
        elif path.endswith("/info/lfs/objects/batch"):
            wanted = json.loads(body)["objects"]
            self.answer(
                {"transfer": "basic", "objects": [
                    {**one, "actions": {"upload": {"href": f"{self.hub.url}/upload/{one['oid']}", "header": {}}}}
                    for one in wanted
                ]}
            )  # fmt: skip
        elif "/commit/" in path:
            self.commit([json.loads(line) for line in body.splitlines() if line])
            commit = "1" * 40
            self.answer({"commitOid": commit, "commitUrl": f"{self.hub.url}/datasets/ann/pairs/commit/{commit}"})
        else:
            self.answer({"error": f"unknown {path}"}, 404)

    def commit(self, lines: list[dict[str, Any]]) -> None:
        for line in lines:
            value = line["value"]
            if line["key"] == "file":
                self.hub.files[value["path"]] = base64.b64decode(value["content"])
            elif line["key"] == "lfsFile":
                self.hub.files[value["path"]] = self.hub.uploads[value["oid"]]
            elif line["key"] == "deletedFile":
                del self.hub.files[value["path"]]
