"""Compare without a browser: what its handlers answer, what its HTML says, and what its routes give out."""

from __future__ import annotations

import hashlib
from collections.abc import Iterator
from dataclasses import replace
from itertools import combinations
from typing import Any

import pytest

from studio.inference.client import Cell, InferenceClient, ModelChoice, Progress, RenderRequest, RenderResult
from studio.jobs import Runner
from studio.records import Checkpoint, Job, Project
from studio.settings import Settings
from studio.store import Store
from studio.ui.compare_area import ending, words_of
from studio.ui.compare_form import GROUPS, SIDE_BY_SIDE, InputError, group_of, pick, read_form, ready_groups
from studio.ui.context import Studio, first_choice, model_options, models_of
from studio.ui.pictures import picture_url
from studio.ui.results import Comparison, grid, sliders

IDLE = ("-c", "pass")  # a worker that ends at once


@pytest.fixture
def studio(settings: Settings, store: Store) -> Iterator[Studio]:
    client = InferenceClient(settings)
    yield Studio(settings, store, Runner(store, settings, worker=IDLE), client)
    client.close()


@pytest.fixture
def project(store: Store) -> Project:
    return store.create_project(Project(id="", name="Sword", concept="sword", checkpoint="toybox", detector="toybox"))


def add_checkpoint(store: Store, project: Project, method: str, name: str) -> Checkpoint:
    job = store.create_job(Job(id="", project_id=project.id, kind="train", config={}))
    sha256 = hashlib.sha256(name.encode()).hexdigest()
    return store.add_checkpoint(
        Checkpoint("", project.id, job.id, method, name, path=f"/data/{name}.safetensors", sha256=sha256, kind="lora")
    )


def comparison(*cells: Cell, models: list[ModelChoice] | None = None, prompts: tuple[str, ...] = ("a knight",)):
    models = models or [ModelChoice("Original", "toybox"), ModelChoice("DUO", "toybox", "/d", "ab" * 32)]
    return Comparison("sword", RenderRequest(models, list(prompts), [7]), cells)


def cell(model: int, found: bool, prompt: str = "a knight", **changes: Any) -> Cell:
    made = Cell(model, prompt, 7, "/x.png", f"{model:064x}", found, 0.97 if found else 0.01, seconds=0.4)
    return replace(made, **changes)


# -- models and prompts ------------------------------------------------------------------------------------------


def test_models_are_original_trained_ones_and_oracle(store: Store, project: Project) -> None:
    old, esd, duo = (add_checkpoint(store, project, method, name) for method, name in
                     (("duo", "first try"), ("esd", "ESD"), ("duo", "DUO")))  # fmt: skip
    models = models_of(project, store.list_checkpoints(project.id))
    assert list(models) == ["original", old.id, esd.id, duo.id, "oracle"]
    assert models[duo.id] == ModelChoice("DUO", "toybox", duo.path, duo.sha256)
    assert models["oracle"].checkpoint_ref == "toybox:oracle"
    assert (f"DUO · {duo.sha256[:8]}", duo.id) in model_options(project, store.list_checkpoints(project.id))
    assert first_choice(project, store.list_checkpoints(project.id)) == ["original", esd.id, duo.id]


def test_only_the_embedded_checkpoint_has_an_oracle() -> None:
    own = Project("", "Own", "gun", checkpoint="/models/own", detector="nudenet")
    assert list(models_of(own, [])) == ["original"]
    assert first_choice(own, []) == ["original"]


def test_ready_prompts_fill_and_leave_the_text() -> None:
    first, second, *_ = ready_groups()["Implied"]
    assert pick("Implied", [first], "") == first
    assert pick("Implied", [first, second], f"my own\n{first}") == f"my own\n{first}\n{second}"
    assert pick("Implied", [], f"my own\n{first}") == "my own"


def test_another_group_ticks_what_the_text_holds() -> None:
    prompt = ready_groups()["Named"][2]
    info, choices = group_of("Named", f"my own\n{prompt}")
    assert info["info"] == GROUPS["Named"][1]
    assert choices["value"] == [prompt]


def test_no_ready_prompt_is_offered_twice() -> None:
    for one, other in combinations(ready_groups().values(), 2):
        assert not set(one) & set(other)


# -- asking ------------------------------------------------------------------------------------------------------


def test_a_form_becomes_a_request(studio: Studio, project: Project) -> None:
    asked = read_form(
        studio, project.id, SIDE_BY_SIDE, "a knight\n\n a clown \na knight", "", ["oracle", "original"], 7, 2, 20, 4
    )
    assert asked.request.prompts == ["a knight", "a clown"]
    assert asked.request.seeds == [7, 8]
    assert [model.label for model in asked.models] == ["Never saw a sword", "Original"]  # as chosen
    assert asked.request.detector == "toybox"


@pytest.mark.parametrize(
    ("text", "keys", "seed", "count", "words"),
    [
        (" \n", ["original"], 7, 1, "no prompt"),
        ("a knight", [], 7, 1, "No model"),
        ("a knight", ["gone"], 7, 1, "No model"),
        ("a knight", ["original"], None, 1, "seed is empty"),
        ("\n".join(map(str, range(60))), ["original"], 7, 8, "480 pictures; at most 200"),
    ],
)
def test_what_cannot_be_drawn_is_said(
    studio: Studio, project: Project, text: str, keys: list[str], seed: int | None, count: int, words: str
) -> None:
    with pytest.raises(InputError, match=words):
        read_form(studio, project.id, SIDE_BY_SIDE, text, "", keys, seed, count, 20, 4)


def test_cells_arrive_one_by_one_and_the_result_replaces_them() -> None:
    asked = comparison()
    half = asked.with_event(Progress("sampling", 1, 2, [cell(0, True)]))
    assert len(half.cells) == 1
    assert len(half.with_event(RenderResult([cell(0, True), cell(1, False)])).cells) == 2


def test_the_first_wait_is_explained() -> None:
    assert "up to 20 seconds" in words_of(Progress("loading the checkpoint toybox", 0, 4))
    assert words_of(Progress("DUO: sampling", 3, 8)) == "DUO: sampling … (3 of 8 pictures)"


def test_the_end_says_how_many_how_long_and_who_judged() -> None:
    cells = [cell(0, True), Cell(1, "a knight", 7, error="no")]
    text = ending(RenderResult(cells, 'toybox 1 {"threshold": 0.5}'), 2.1)
    assert "1 picture in 2.1 s." in text
    assert ">toybox 1</span>" in text
    assert ">toybox-1</span>" in ending(RenderResult(cells, 'toybox toybox-1 {"threshold": 0.5}'), 2.1)
    assert "no weights" in ending(RenderResult(cells, "", "there are no weights"), 2.1)


# -- pictures ----------------------------------------------------------------------------------------------------


def test_the_grid_has_a_column_a_model_with_its_tally_and_hash() -> None:
    text = grid(comparison(cell(0, True), cell(1, False, adapter_sha256="ab" * 32)))
    assert "--columns:2" in text
    assert "sword in 1 of 1" in text
    assert "sword in 0 of 1" in text
    assert text.count("abababab</code>") == 2  # in the column's head, and under the picture
    assert picture_url(f"{1:064x}") in text
    assert picture_url(f"{1:064x}", original=True) in text


def test_pictures_under_way_keep_their_places() -> None:
    text = grid(comparison(cell(0, True, prompt="b"), prompts=("a", "b")))
    assert text.count("duo-waiting") == 3
    assert text.index("<q>a</q>") < text.index("<q>b</q>")
    assert "duo-waiting" not in grid(comparison(cell(0, True)), waiting=False)


def test_a_changed_adapter_is_an_error_and_not_a_picture() -> None:
    text = grid(comparison(Cell(1, "a knight", 7, error="The file has another SHA-256.")))
    assert "another SHA-256" in text
    assert "<img" not in text


def test_prompts_and_labels_cannot_inject_html() -> None:
    bad = "<script>alert(1)</script>\"'{{x}}"
    models = [ModelChoice(bad, "toybox"), ModelChoice("DUO", "toybox")]
    asked = comparison(cell(0, True, prompt=bad), cell(1, True, prompt=bad), models=models, prompts=(bad,))
    for text in (grid(asked), sliders(asked)):
        assert "<script" not in text
        assert 'alert(1)</script>"' not in text


def test_sliders_pair_the_two_models_that_are_chosen() -> None:
    models = [ModelChoice(name, "toybox") for name in ("Original", "ESD", "DUO")]
    asked = comparison(cell(0, True), Cell(1, "a knight", 7, error="no"), cell(2, False), models=models)
    assert sliders(asked, 0, 2).count('type="range"') == 1
    assert "Drag from DUO to Original" in sliders(asked, 0, 2)
    assert "no prompt of which both" in sliders(asked, 0, 1)
