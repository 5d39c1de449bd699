"""This folder as a Space, on a local stand-in for the hub: its files, its front matter, its secrets, and no data."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import replace
from pathlib import Path

import pytest
import yaml

from studio import spaces
from studio.cli import main
from studio.records import Project
from studio.settings import REPOSITORY, Settings
from studio.spaces import SpaceError, Wanted, front_matter, space_files, sync
from studio.store import Store
from tests.hub_server import TOKEN, Hub, Repository, hub_server, send_to

README = (REPOSITORY / "README.md").read_text(encoding="utf-8")


@pytest.fixture
def hub(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> Iterator[Hub]:
    with hub_server() as made:
        send_to(made, monkeypatch, tmp_path / "no-login")
        yield made


@pytest.fixture
def root(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """A small repository, with a data folder in it."""
    made = tmp_path / "repository"
    for name in ("app.py", "studio/a.py", "studio/__pycache__/a.pyc", "models/w.safetensors", "studio/data/secret.png",
                 "data/studio.db", "studio/.env", "tests/test_a.py", "models/mine/users.json"):  # fmt: skip
        (made / name).parent.mkdir(parents=True, exist_ok=True)
        (made / name).write_bytes(b"x")
    (made / "README.md").write_text(README, encoding="utf-8")
    (made / "studio" / "link.py").symlink_to("/etc/passwd")
    monkeypatch.setattr(spaces, "space_files", lambda settings: space_files(settings, made))
    return made


def facts(readme: bytes | str) -> dict[str, object]:
    text = readme.decode() if isinstance(readme, bytes) else readme
    return yaml.safe_load(text.split("---\n")[1])


def test_of_this_repository_the_code_goes_and_nothing_else(settings: Settings) -> None:
    names = set(space_files(settings))
    assert {"app.py", "README.md", "requirements.txt", "studio/ui/build.py", "studio/sample.zip"} <= names
    assert any(name.startswith("models/toybox/weights/") for name in names)
    assert not [name for name in names if name.startswith(("tests/", "benchmarks/", ".")) or "__pycache__" in name]


def test_a_space_is_made_with_hardware_and_secrets_and_without_data(
    hub: Hub, root: Path, settings: Settings, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    settings = replace(settings, data=root / "models" / "mine")  # a data folder in the wrong place
    monkeypatch.setenv("DUO_STUDIO_DATA", str(settings.data))
    monkeypatch.setenv("MY_SECRET", "nobody may read this")
    asked = ["space", "create", "me/duo", "--hardware", "t4-small", "--secret", "MY_SECRET", "--public"]
    assert main(asked) == 0
    made = hub.repositories["me/duo"]
    assert sorted(made.files) == ["README.md", "app.py", "models/w.safetensors", "studio/a.py"]
    assert made.space == {"sdk": "gradio", "hardware": "t4-small", "secrets": {"MY_SECRET": "nobody may read this"}}
    assert not made.private
    assert facts(made.files["README.md"])["suggested_hardware"] == "t4-small"
    told = capsys.readouterr()
    assert "nobody may read this" not in told.out + told.err
    assert TOKEN not in told.out + told.err
    assert main(asked) == 2
    assert "was not made" in capsys.readouterr().err


def test_a_sync_is_one_commit_that_also_takes_away(hub: Hub, root: Path, settings: Settings) -> None:
    wanted = Wanted("me/duo", hardware="zero-a10g")
    spaces.create(wanted, settings)
    (root / "studio" / "a.py").unlink()
    (root / "studio" / "b.py").write_bytes(b"y")
    sync(replace(wanted, hardware="cpu-basic"), settings)
    made = hub.repositories["me/duo"]
    assert "studio/a.py" not in made.files
    assert made.files["studio/b.py"] == b"y"
    assert made.space["hardware"] == "cpu-basic"
    assert len(made.commits) == 2
    assert made.private


def test_a_sync_leaves_a_docker_space_one(
    hub: Hub, root: Path, settings: Settings, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("DUO_STUDIO_DATA", str(settings.data))
    assert main(["space", "create", "me/duo", "--sdk", "docker"]) == 0
    assert main(["space", "sync", "me/duo"]) == 0
    assert facts(hub.repositories["me/duo"].files["README.md"])["sdk"] == "docker"
    assert main(["space", "sync", "me/duo", "--sdk", "gradio"]) == 0
    assert facts(hub.repositories["me/duo"].files["README.md"])["sdk"] == "gradio"


def test_a_sensitive_project_tags_the_space(
    hub: Hub, root: Path, settings: Settings, store: Store, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("DUO_STUDIO_DATA", str(settings.data))
    store.create_project(Project("", "Blurred", "sword", "toybox", "toybox", blur=True))
    assert main(["space", "create", "me/duo"]) == 0
    assert "not-for-all-audiences" in facts(hub.repositories["me/duo"].files["README.md"])["tags"]  # type: ignore[operator]
    assert main(["space", "sync", "me/duo", "--not-sensitive"]) == 0
    assert "not-for-all-audiences" not in facts(hub.repositories["me/duo"].files["README.md"])["tags"]  # type: ignore[operator]


def test_a_docker_space_has_a_port_and_no_python(settings: Settings) -> None:
    told = facts(front_matter(README, Wanted("me/duo", "docker")))
    assert (told["sdk"], told["app_port"]) == ("docker", 7860)
    assert not {"sdk_version", "python_version", "app_file"} & told.keys()
    with pytest.raises(SpaceError, match="takes the Gradio SDK"):
        Wanted("me/duo", "docker", "zero-a10g")


@pytest.mark.parametrize(
    ("asked", "words"),
    [(["me"], "must be owner/name"), (["me/duo", "--sdk", "static"], "use gradio or docker"),
     (["me/duo", "--secret", "NOT_SET"], "NOT_SET is to be a secret"), (["me/other"], "no Space me/other")],
)  # fmt: skip
def test_what_cannot_be_done_is_said(
    hub: Hub, root: Path, settings: Settings, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str],
    asked: list[str], words: str,
) -> None:  # fmt: skip
    monkeypatch.setenv("DUO_STUDIO_DATA", str(settings.data))
    hub.repositories["me/duo"] = Repository(True)
    assert main(["space", "sync", *asked]) == 2
    assert words in capsys.readouterr().err


def test_without_a_token_nothing_is_sent(
    hub: Hub, root: Path, settings: Settings, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.delenv("HF_TOKEN")
    with pytest.raises(SpaceError, match="no Hugging Face token"):
        sync(Wanted("me/duo"), settings)
    assert hub.asked == []
