"""Settings from the environment."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path

import pytest

from studio.settings import Settings, SettingsError


def test_a_child_reads_the_same_settings(tmp_path: Path) -> None:
    settings = Settings(
        data=tmp_path,
        device="cpu",
        threads=3,
        toybox=tmp_path / "toybox",
        trackers=("wandb", "trackio"),
        prewarm=False,
        fork=False,
    )
    assert Settings.from_environment(settings.environment()) == settings


def test_empty_variables_count_as_not_set(tmp_path: Path) -> None:
    settings = Settings(data=tmp_path)
    names = (
        "DUO_STUDIO_DEVICE",
        "DUO_STUDIO_DTYPE",
        "DUO_STUDIO_PROCESSES",
        "DUO_STUDIO_THREADS",
        "DUO_STUDIO_TOYBOX",
        "DUO_STUDIO_TRACKERS",
        "GRADIO_SERVER_PORT",
        "GRADIO_SERVER_NAME",
    )
    assert Settings.from_environment({"DUO_STUDIO_DATA": str(tmp_path)} | dict.fromkeys(names, "")) == settings


def test_paths_are_made_absolute(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    monkeypatch.chdir(tmp_path)
    monkeypatch.setenv("HOME", str(tmp_path))
    made = Settings.from_environment({"DUO_STUDIO_DATA": "data", "DUO_STUDIO_TOYBOX": "~/toybox"})
    assert made == replace(made, data=tmp_path / "data", toybox=tmp_path / "toybox")


@pytest.mark.parametrize(
    ("name", "value", "message"),
    [
        ("DUO_STUDIO_DEVICE", "abacus", "DUO_STUDIO_DEVICE is 'abacus'; use auto"),
        ("DUO_STUDIO_DTYPE", "int8", "DUO_STUDIO_DTYPE is 'int8'; use auto, float32, bfloat16 or float16"),
        (
            "DUO_STUDIO_TRACKERS",
            "wandb, diary",
            "DUO_STUDIO_TRACKERS has 'diary'; use any of tensorboard, ",
        ),
        ("DUO_STUDIO_THREADS", "many", "DUO_STUDIO_THREADS is 'many'; it must be a whole number from 0"),
        ("GRADIO_SERVER_PORT", "70000", "GRADIO_SERVER_PORT is 70000; it must lie between 1 and 65535"),
    ],
)
def test_what_cannot_be_used_is_named(name: str, value: str, message: str) -> None:
    with pytest.raises(SettingsError, match=message):
        Settings.from_environment({name: value})
