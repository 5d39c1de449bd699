"""Sending a folder to the hub, to a local stand-in for it."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path

import huggingface_hub.constants as hub_constants
import pytest

from studio.workflow.context import WorkflowError
from studio.workflow.pushing import push_folder
from tests.hub_server import TOKEN, Hub, Repository, hub_server, send_to

CARD = "---\ntags: [duo-studio]\n---\n# card\n"


@pytest.fixture
def hub(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> Iterator[Hub]:
    with hub_server() as made:
        send_to(made, monkeypatch, tmp_path / "no-login")
        yield made


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    made = tmp_path / "duo-merged"
    (made / "unet").mkdir(parents=True)
    (made / "README.md").write_text(CARD, encoding="utf-8")
    (made / "unet" / "model.safetensors").write_bytes(b"weights" * 1000)
    return made


def telling(*arguments: object, **named: object) -> None:
    """An error whose words have the token in them, as those of a proxy might."""
    raise OSError(f"no {TOKEN}")


@pytest.mark.parametrize("private", [True, False])
def test_every_file_arrives_in_one_commit(hub: Hub, folder: Path, private: bool) -> None:
    url = push_folder(folder, "me/forgets-swords", private=private)
    assert url == f"{hub.url}/me/forgets-swords"
    made = hub.repositories["me/forgets-swords"]
    assert made.private is private
    assert made.files == {
        "README.md": CARD.encode(),
        "unet/model.safetensors": b"weights" * 1000,
    }
    assert made.commits == ["Add duo-merged"]


def test_again_adds_a_commit(hub: Hub, folder: Path) -> None:
    push_folder(folder, "me/forgets-swords", private=True)
    (folder / "README.md").write_text(CARD + "# better\n", encoding="utf-8")
    push_folder(folder, "me/forgets-swords", private=True)
    made = hub.repositories["me/forgets-swords"]
    assert made.files["README.md"] == CARD.encode() + b"# better\n"
    assert len(made.commits) == 2


def test_what_is_meant_to_be_private_does_not_go_into_a_public_repository(hub: Hub, folder: Path) -> None:
    hub.repositories["me/public"] = Repository(private=False)
    with pytest.raises(WorkflowError, match=r"me/public is there already and is public"):
        push_folder(folder, "me/public", private=True)
    assert hub.repositories["me/public"].files == {}
    push_folder(folder, "me/public", private=False)
    assert "README.md" in hub.repositories["me/public"].files


def test_refusals_name_cause_and_remedy_and_never_the_token(
    hub: Hub, folder: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    hub.refuse_writing = True
    with pytest.raises(WorkflowError, match=r"rights to create a model.*token may write there") as refused:
        push_folder(folder, "them/model", private=True)
    assert str(folder) in str(refused.value)
    hub.refuse_writing = False
    monkeypatch.setattr("huggingface_hub.lfs._upload_single_part", telling)
    with pytest.raises(WorkflowError, match=r"unet/model\.safetensors.*no \(token\)") as broken:
        push_folder(folder, "me/model", private=True)
    assert TOKEN not in f"{refused.value}{broken.value}"
    assert broken.value.__cause__ is None
    with pytest.raises(WorkflowError, match="was not sent to the hub"):
        push_folder(folder, "a/b/c", private=True)


def test_a_wrong_token_and_none(hub: Hub, folder: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("HF_TOKEN", "hf_another")
    with pytest.raises(WorkflowError, match="was not sent to the hub") as refused:
        push_folder(folder, "me/model", private=True)
    assert "hf_another" not in str(refused.value)
    monkeypatch.delenv("HF_TOKEN")
    with pytest.raises(WorkflowError, match=r"no token for the Hugging Face hub.*hf auth login"):
        push_folder(folder, "me/model", private=True)
    assert hub.repositories == {}


def test_no_connection(hub: Hub, folder: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(hub_constants, "ENDPOINT", "http://127.0.0.1:9")
    with pytest.raises(WorkflowError, match=r"was not sent to the hub.*and the connection"):
        push_folder(folder, "me/model", private=True)
