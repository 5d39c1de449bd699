"""Compare in the page's own process, as ZeroGPU wants it, with a stand-in for the package `spaces`."""

from __future__ import annotations

import sys
from collections.abc import Callable, Iterator
from pathlib import Path
from types import ModuleType
from typing import Any

import pytest

from studio.images import read_metadata
from studio.inference.client import InferenceClient, InferenceError, ModelChoice, Progress, RenderRequest, RenderResult
from studio.inference.zero import MOST_SECONDS, ZeroClient, client_of, seconds_for
from studio.settings import Settings

LENT: list[int] = []


def gpu(duration: Callable[..., int]) -> Callable[..., Any]:
    """As `spaces.GPU`: the duration may be a function of what the call is given."""

    def decorate(function: Callable[..., Iterator[Any]]) -> Callable[..., Iterator[Any]]:
        def call(*values: Any) -> Iterator[Any]:
            LENT.append(duration(*values))
            yield from function(*values)

        return call

    return decorate


@pytest.fixture
def client(tmp_path: Path, tiny_folder: Path) -> ZeroClient:
    settings = Settings(tmp_path, device="cpu", threads=1, toybox=tiny_folder)
    settings.create_folders()
    LENT.clear()
    return ZeroClient(settings, gpu)


def asked(checkpoint: str = "toybox", **changes: Any) -> RenderRequest:
    return RenderRequest([ModelChoice("Original", checkpoint)], ["a knight"], [1, 2], steps=2, **changes)


def test_pictures_are_drawn_here_while_the_gpu_is_lent(client: ZeroClient) -> None:
    events = list(client.render(asked()))
    result = events[-1]
    assert isinstance(result, RenderResult)
    assert all(isinstance(event, Progress) for event in events[:-1])
    assert len(result.cells) == 2
    assert read_metadata(client._settings, result.cells[0].sha256)["prompt"] == "a knight"
    assert [seconds_for(client._settings, asked())] == LENT
    assert client.cut_off("toybox", ["a knight"]) == [""]


def test_what_cannot_be_drawn_is_said_and_the_next_one_is_drawn(client: ZeroClient) -> None:
    with pytest.raises(InferenceError, match="Delphi"):
        list(client.render(asked(detector="oracle of Delphi")))
    assert isinstance(list(client.render(asked()))[-1], RenderResult)


def test_the_gpu_is_asked_for_no_longer_than_it_is_lent(tmp_path: Path) -> None:
    many = RenderRequest([ModelChoice("Original", "toybox")] * 4, ["a"] * 8, list(range(8)))
    assert seconds_for(Settings(tmp_path), many) == MOST_SECONDS


def test_only_zero_gpu_takes_this_way(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    settings = Settings(tmp_path)
    assert type(client_of(settings)) is InferenceClient
    monkeypatch.setenv("SPACES_ZERO_GPU", "true")
    monkeypatch.setitem(sys.modules, "spaces", None)
    monkeypatch.setattr("studio.inference.zero.find_spec", lambda name: None)
    assert type(client_of(settings)) is InferenceClient, "the package is not there"
    stand_in = ModuleType("spaces")
    stand_in.GPU = gpu  # type: ignore[attr-defined]
    monkeypatch.setitem(sys.modules, "spaces", stand_in)
    monkeypatch.setattr("studio.inference.zero.find_spec", lambda name: stand_in)
    assert isinstance(client_of(settings), ZeroClient)
