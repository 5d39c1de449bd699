"""Networks that no package ships: found where their libraries keep them, fetched whole or not at all."""

from __future__ import annotations

import hashlib
from collections.abc import Iterator
from dataclasses import replace
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path
from threading import Thread

import pytest
import torch

from studio import backbones, cli
from studio.backbones import BACKBONES, BackboneError, fetch, find, located, torch_cache
from studio.records import Project
from studio.settings import Settings
from studio.store import Store
from studio.workflow.fetching import fetch_backbone
from tests.workflow_data import context_of

WEIGHTS = bytes(range(256)) * 10_000


@pytest.fixture
def served(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> Iterator[dict[str, bytes]]:
    """A local server in place of AlexNet's; what it sends and how much it says it will send can be changed."""
    state = {"body": WEIGHTS, "length": str(len(WEIGHTS)).encode()}

    class Handler(BaseHTTPRequestHandler):
        def do_GET(self) -> None:
            self.send_response(200)
            self.send_header("Content-Length", state["length"].decode())
            self.end_headers()
            self.wfile.write(state["body"])

        def log_message(self, *arguments: object) -> None:
            pass

    server = ThreadingHTTPServer(("127.0.0.1", 0), Handler)
    Thread(target=server.serve_forever, daemon=True).start()
    url = f"http://127.0.0.1:{server.server_port}/alexnet.pth"
    ours = replace(BACKBONES["alexnet"], url=url, sha256=hashlib.sha256(WEIGHTS).hexdigest()[:8])
    monkeypatch.setitem(BACKBONES, "alexnet", ours)
    monkeypatch.setenv("TORCH_HOME", str(tmp_path / "cache"))
    yield state
    server.shutdown()


def test_the_cache_is_torchs_own(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    for name, value in ((None, None), ("XDG_CACHE_HOME", tmp_path / "x"), ("TORCH_HOME", tmp_path / "t")):
        if name:
            monkeypatch.setenv(name, str(value))
        assert torch_cache() == Path(torch.hub.get_dir()) / "checkpoints"


def test_a_fetched_file_is_found_and_not_fetched_again(served: dict[str, bytes]) -> None:
    told: list[tuple[int, int]] = []
    assert find(BACKBONES["alexnet"]) is None
    path = fetch("alexnet", lambda done, total: told.append((done, total)))
    assert path.read_bytes() == WEIGHTS
    assert told[-1] == (len(WEIGHTS), len(WEIGHTS))
    assert sorted(told) == told
    served["body"] = b"other"
    assert fetch("alexnet", pytest.fail) == path == located("alexnet")


@pytest.mark.parametrize(
    ("body", "length", "words"),
    [
        (b"<html>sign in</html>", 20, "a proxy may have answered in its place"),
        (WEIGHTS[:1000], len(WEIGHTS), "could not be fetched|ended after 1000 of 2560000 bytes"),
    ],
)
def test_what_is_not_the_file_is_thrown_away(
    served: dict[str, bytes], tmp_path: Path, body: bytes, length: int, words: str
) -> None:
    served.update(body=body, length=str(length).encode())
    with pytest.raises(BackboneError, match=words):
        fetch("alexnet", lambda done, total: None)
    assert [path for path in (tmp_path / "cache").rglob("*") if path.is_file()] == []


def test_without_network_the_place_for_the_file_is_told(served: dict[str, bytes], monkeypatch) -> None:
    monkeypatch.setitem(BACKBONES, "alexnet", replace(BACKBONES["alexnet"], url="http://127.0.0.1:9/alexnet.pth"))
    with pytest.raises(BackboneError, match=r"127\.0\.0\.1:9.*put the file at .*alexnet\.pth by hand"):
        fetch("alexnet", lambda done, total: None)


def test_the_hubs_cache_needs_config_and_weights(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    monkeypatch.setattr("huggingface_hub.constants.HF_HUB_CACHE", str(tmp_path))
    clip = BACKBONES["clip-l14"]
    folder = tmp_path / "models--openai--clip-vit-large-patch14/snapshots" / clip.revision
    folder.mkdir(parents=True)
    (folder / "config.json").write_text("{}")
    assert find(clip) is None
    with pytest.raises(BackboneError, match=r"1710 MB once: python -m studio backbones fetch clip-l14"):
        located("clip-l14")
    (folder / "model.safetensors").write_bytes(b"")
    assert find(clip) == folder


def test_the_job_tells_megabytes(served: dict[str, bytes], store: Store, settings: Settings, project: Project) -> None:
    told: list[str] = []

    def report(step: int, total: int, message: str = "", **values: float) -> None:
        told.append(message)

    context = context_of(store, settings, project, "fetch", {"backbone": "alexnet"}, report)
    assert Path(fetch_backbone(context)["path"]).read_bytes() == WEIGHTS
    assert told[-2].endswith("3 of 3 MB")


def test_the_shell_lists_and_refuses(served: dict[str, bytes], capsys: pytest.CaptureFixture[str]) -> None:
    assert cli.main(["backbones", "list"]) == 0
    assert "resnet50" in capsys.readouterr().out
    assert cli.main(["backbones", "fetch", "vgg"]) == 2
    assert "There is no backbone 'vgg'; use one of alexnet, resnet50" in capsys.readouterr().err
    assert cli.main(["backbones", "fetch", "alexnet"]) == 0
    assert backbones.find(BACKBONES["alexnet"]) is not None
