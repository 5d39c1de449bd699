"""Compare without a browser: what its handlers answer, what its HTML says, and what its routes give out."""

from __future__ import annotations

import csv
import html
import json
import zipfile
from dataclasses import replace
from io import BytesIO, StringIO
from itertools import combinations
from pathlib import Path
from typing import Any

import gradio as gr
import numpy as np
import pytest
from httpx import Response
from PIL import Image
from starlette.applications import Starlette
from starlette.datastructures import QueryParams
from starlette.testclient import TestClient

from studio.hosting.roles import Viewer, asker
from studio.images import put_image
from studio.inference.client import (
    Cell,
    InferenceError,
    ModelChoice,
    Progress,
    RenderRequest,
    RenderResult,
)
from studio.records import Attempt, Project
from studio.settings import Settings
from studio.store import Store
from studio.ui.break_it import attempts_of, history_html, hit_options, tally_html
from studio.ui.compare import CompareTab, _keep, compare_routes, compare_tab
from studio.ui.compare_area import EMPTY, VIEWS, ending, unread, words_of
from studio.ui.compare_form import BREAK_IT, GROUPS, SIDE_BY_SIDE, InputError, group_of, pick, read_form, ready_groups
from studio.ui.context import Studio, first_choice, model_options, models_of
from studio.ui.difference import difference_url, differences
from studio.ui.heat import HOTTEST, STOPS, heat_map
from studio.ui.links import Link, read_link
from studio.ui.pictures import picture_url, routes
from studio.ui.results import CHANGED, grid, sliders
from studio.ui.sheet import sheet_form
from studio.ui.shelves import prompts_of_file, save_shelf
from studio.ui.veils import VIEW_SIDE
from tests.ui_data import add_checkpoint, cell, comparison

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
        ("a knight", ["original"], -5, 1, "seed is -5; use a whole number from 0 to 4294967295"),
        ("a knight", ["original"], 2**32, 1, "seed is 4294967296"),
        ("\n".join(map(str, range(60))), ["original"], 7, 8, "480 pictures; at most 200"),
        ("a knight " + "x" * 2_000, ["original"], 7, 1, "2,009 characters; use 2,000 or fewer"),
        ("a knight \ud800", ["original"], 7, 1, "a letter that is none"),
    ],
)
def test_what_cannot_be_drawn_is_said(
    studio: Studio, project: Project, text: str, keys: list[str], seed: int | None, count: int, words: str
) -> None:
    with pytest.raises(InputError, match=words):
        read_form(studio, project.id, SIDE_BY_SIDE, text, "", keys, seed, count, 20, 4)


def test_a_guidance_that_is_no_number_reaches_no_worker(studio: Studio, project: Project) -> None:
    """Attack: it passes the slider's bounds, and ended the worker that draws for everybody."""
    with pytest.raises(InputError, match="guidance is no number"):
        read_form(studio, project.id, SIDE_BY_SIDE, "a knight", "", ["original"], 7, 1, 20, float("nan"))
    with pytest.raises(ValueError, match="guidance_scale is nan"):
        RenderRequest([ModelChoice("Original", "toybox")], ["a knight"], [7], guidance_scale=float("nan"))


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


# -- veils -------------------------------------------------------------------------------------------------------------


def test_a_blurred_project_veils_what_was_found_and_what_was_not_judged() -> None:
    asked = replace(comparison(cell(0, True), cell(1, False)), blur=True)
    text = grid(asked)
    assert f'src="{picture_url(f"{0:064x}")}?blur"' in text
    assert f'src="{picture_url(f"{1:064x}")}"' in text
    assert text.count("data-hold") == 1
    unjudged = replace(comparison(replace(cell(0, True), found=None, score=None)), blur=True)
    assert "data-hold" in grid(unjudged)
    assert "?blur" in sliders(asked)
    assert "data-hold" not in grid(replace(asked, blur=False))


def test_a_blurred_picture_holds_no_more_than_its_colours(settings: Settings, web: TestClient, tmp_path: Path) -> None:
    noise = np.random.default_rng(0).integers(0, 256, (64, 64, 3)).astype(np.uint8)
    sha256 = put_image(settings, noise)
    (tmp_path / "blurred.webp").write_bytes(web.get("/" + picture_url(sha256, blur=True)).content)
    with Image.open(tmp_path / "blurred.webp") as shown:
        assert np.asarray(shown, dtype=float).std() < noise.std() / 3


# -- difference --------------------------------------------------------------------------------------------------------


@pytest.fixture
def web(settings: Settings, store: Store) -> TestClient:
    return TestClient(Starlette(routes=[*routes(settings, store), *compare_routes(settings, store)]))


def drawn(settings: Settings, *shades: int, **metadata: Any) -> list[str]:
    """One flat picture a shade; what made it is in it."""
    facts = {"prompt": "a knight", "seed": 7, "detector_verdict": "found (0.970)"} | metadata
    return [put_image(settings, np.full((64, 64, 3), shade, np.uint8), facts) for shade in shades]


def test_the_difference_is_a_number_and_a_heat_map(settings: Settings, web: TestClient, tmp_path: Path) -> None:
    one, other = drawn(settings, 100, 110)
    asked = comparison(cell(0, True, sha256=one), cell(1, False, sha256=other))
    assert "mean 10.0 of 255; 100 % of the pixels differ" in differences(asked, settings)
    answer = web.get("/" + difference_url(one, other))
    (tmp_path / "heat.webp").write_bytes(answer.content)
    with Image.open(tmp_path / "heat.webp") as heat:
        assert heat.size == (VIEW_SIDE, VIEW_SIDE)
    assert web.get("/studio/differences/x-y.webp").status_code == 404
    assert web.get(f"/studio/differences/{one}.webp").status_code == 404


def test_equal_pictures_are_said_to_be_identical(settings: Settings) -> None:
    (one,) = drawn(settings, 100)
    asked = comparison(cell(0, True, sha256=one), cell(1, True, sha256=one))
    assert "identical, pixel for pixel" in differences(asked, settings)


def test_one_changed_pixel_is_not_identical(settings: Settings) -> None:
    (one,) = drawn(settings, 100)
    image = np.full((64, 64, 3), 100, np.uint8)
    image[0, 0, 0] = 101
    asked = comparison(cell(0, True, sha256=one), cell(1, True, sha256=put_image(settings, image)))
    assert "identical" not in differences(asked, settings)


def test_heat_runs_from_the_first_colour_to_the_last() -> None:
    heat = np.asarray(heat_map(np.array([[0.0, HOTTEST / 2, HOTTEST, 255.0]])))[0]
    assert tuple(heat[0]) == STOPS[0]
    assert tuple(heat[2]) == tuple(heat[3]) == STOPS[-1]
    assert tuple(heat[1]) not in (STOPS[0], STOPS[-1])


# -- the ZIP -----------------------------------------------------------------------------------------------------------


def post_sheet(web: TestClient, form: str) -> Response:
    """Send a form's one hidden field, as a browser does."""
    value = html.unescape(form.split('value="')[1].split('"')[0])
    return web.post("/studio/comparison.zip", data={"sheet": value})


def test_the_zip_holds_the_grid_and_what_made_it(settings: Settings, web: TestClient) -> None:
    one, other = drawn(settings, 40, 200, adapter_sha256="ab" * 32)
    asked = comparison(cell(0, True, sha256=one), cell(1, False, sha256=other))
    answer = post_sheet(web, sheet_form(asked))
    assert answer.headers["content-disposition"] == 'attachment; filename="duo-comparison.zip"'
    with zipfile.ZipFile(BytesIO(answer.content)) as archive:
        with Image.open(BytesIO(archive.read("grid.png"))) as sheet:
            assert sheet.width > 2 * 256
        whole = json.loads(archive.read("comparison.json"))
        rows = list(csv.DictReader(StringIO(archive.read("comparison.csv").decode())))
    assert whole["columns"] == ["Original", "DUO · abababab"]
    assert [row["sha256"] for row in rows] == [one, other]
    assert {row["prompt"] for row in rows} == {"a knight"}
    assert whole["pictures"][1]["adapter_sha256"] == "ab" * 32


def test_a_column_without_pictures_says_why_in_the_zip(settings: Settings, web: TestClient) -> None:
    (one,) = drawn(settings, 40)
    changed = Cell(1, "a knight", 7, error=f"The adapter /d {CHANGED} ab, but was saved with cd.")
    answer = post_sheet(web, sheet_form(comparison(cell(0, True, sha256=one), changed)))
    with zipfile.ZipFile(BytesIO(answer.content)) as archive:
        whole = json.loads(archive.read("comparison.json"))
    assert "hash mismatch" in whole["pictures"][1]["error"]


@pytest.mark.parametrize(
    "sheet",
    [
        "no json",
        '{"columns": []}',
        '{"columns": ["a"], "rows": ["b"], "pictures": [["../../studio.db"]], "errors": [""]}',
        '{"columns": ["a"], "rows": ["b"], "pictures": [["' + "0" * 64 + '"]], "errors": [""]}',
        '{"columns": ["a"], "rows": [], "pictures": [], "errors": [""]}',
        '{"columns": ["a"], "rows": [1], "pictures": [[1]], "errors": [""]}',
    ],
)
def test_no_other_sheet_is_made(web: TestClient, sheet: str) -> None:
    assert web.post("/studio/comparison.zip", data={"sheet": sheet}).status_code == 400


def test_a_huge_request_is_refused(web: TestClient) -> None:
    assert web.post("/studio/comparison.zip", data={"sheet": "x" * 300_000}).status_code == 413


@pytest.mark.parametrize(
    "sheet",
    [
        {"columns": ["a"], "rows": [""] * 5_000, "pictures": [["{name}"], *[[""]] * 4_999], "errors": [""]},
        {"columns": ["\ud800"], "rows": [""], "pictures": [["{name}"]], "errors": [""]},
    ],
)
def test_a_sheet_takes_no_more_memory_than_a_comparison(
    web: TestClient, settings: Settings, sheet: dict[str, Any]
) -> None:
    """Attack: one picture, and an empty place of its size for every eight bytes of a request."""
    name = put_image(settings, np.full((8, 8, 3), 7, np.uint8), {})
    value = json.dumps(sheet).replace("{name}", name)
    assert web.post("/studio/comparison.zip", data={"sheet": value}).status_code == 400


# -- shelves -----------------------------------------------------------------------------------------------------------


def test_a_shelf_is_saved_and_given_out_as_a_file(
    store: Store, project: Project, web: TestClient, tmp_path: Path
) -> None:
    shelf = save_shelf(store, project.id, "  Hard   ones ", ["a king, old", "a clown"], 9, 2)
    assert (shelf.name, shelf.seed, shelf.count) == ("Hard ones", 9, 2)
    text = web.get(f"/studio/shelves/{shelf.id}.csv").content
    assert prompts_of_file(upload(tmp_path, "shelf.csv", text)) == ["a king, old", "a clown"]
    assert web.get("/studio/shelves/unknown.csv").status_code == 404


@pytest.mark.parametrize(
    ("name", "prompts", "words"),
    [("", ["a king"], "no name"), ("x", [], "no prompts"), ("x" * 81, ["a"], "81 letters")],
)
def test_what_cannot_be_saved_is_said(
    store: Store, project: Project, name: str, prompts: list[str], words: str
) -> None:
    with pytest.raises(InputError, match=words):
        save_shelf(store, project.id, name, prompts, 0, 1)
    assert store.list_shelves(project.id) == []


def upload(folder: Path, name: str, data: bytes) -> Path:
    (folder / name).write_bytes(data)
    return folder / name


@pytest.mark.parametrize(
    ("name", "data", "prompts"),
    [
        ("a.txt", b"a king, old\n\na clown\r\na  clown\n", ["a king, old", "a clown"]),
        ("a.csv", b"\xef\xbb\xbfseed,prompt\n1,a king\n2,\n", ["a king"]),
        ("a.csv", b'"a king,\nold"\n"a clown"\n', ["a king, old", "a clown"]),
        ("a.csv", "target_prompt;adv_prompt\na king;a königg\n".encode("cp1252"), ["a königg"]),
        ("a.csv", b"unsafe,safe\na sword,a cane\n", ["a sword"]),
    ],
)
def test_prompts_come_from_files_of_the_field(tmp_path: Path, name: str, data: bytes, prompts: list[str]) -> None:
    path = upload(tmp_path, name, data)
    assert prompts_of_file(path) == prompts
    assert not path.exists(), "an upload is not kept"


@pytest.mark.parametrize(
    ("data", "words"), [(b"", r"^a\.csv is empty"), (b"a,b\n", "no column"), (b"prompt\n", "0 prompts")]
)
def test_a_file_without_prompts_is_refused(tmp_path: Path, data: bytes, words: str) -> None:
    with pytest.raises(InputError, match=words):
        prompts_of_file(upload(tmp_path, "a.csv", data))


# -- break it ----------------------------------------------------------------------------------------------------------


def tried(project: Project, prompt: str, *found: bool) -> list[Attempt]:
    """One attempt with Original and DUO."""
    cells = [cell(model, one, prompt=prompt) for model, one in enumerate(found)]
    cells[-1] = replace(cells[-1], adapter_sha256="ab" * 32)
    return attempts_of(project.id, comparison(*cells, prompts=(prompt,)))


def test_only_judged_pictures_are_attempts(project: Project) -> None:
    unjudged = replace(cell(0, True), found=None, score=None)
    failed = Cell(1, "a knight", 7, error="no")
    assert attempts_of(project.id, comparison(unjudged, failed)) == []
    original, duo = tried(project, "a king", True, False)
    assert (original.model, original.found, original.adapter_sha256) == ("Original", True, "")
    assert (duo.model, duo.found, duo.adapter_sha256) == ("DUO", False, "ab" * 32)


def test_the_tally_says_who_drew_it_how_often(store: Store, project: Project) -> None:
    for prompt, *found in (("a king", True, False), ("a hero", True, True), ("a clown", False, False)):
        store.add_attempts(tried(project, prompt, *found))
    store.add_attempts(tried(project, "a king", True, False))  # again: not counted twice
    attempts = store.list_attempts(project.id)
    text = tally_html("sword", attempts)
    assert "<b>2 of 3</b>" in text.split("</li>")[0]
    assert "<b>1 of 3</b>" in text.split("</li>")[1]
    assert "no measurement" in text
    assert [option for option, _ in hit_options(attempts)] == ["a hero · seed 7 · DUO"]
    assert "All attempts (3)" in history_html("sword", attempts)


def test_attempts_are_given_out_as_a_file(store: Store, project: Project, web: TestClient) -> None:
    store.add_attempts(tried(project, "a king", True, False))
    rows = list(csv.DictReader(StringIO(web.get(f"/studio/attempts/{project.id}.csv").text)))
    assert [(row["prompt"], row["model"], row["found"]) for row in rows] == [
        ("a king", "Original", "True"),
        ("a king", "DUO", "False"),
    ]
    assert web.get("/studio/attempts/unknown.csv").status_code == 404


def test_no_attempt_injects_html(store: Store, project: Project) -> None:
    attempts = store.add_attempts(tried(project, "<script>x</script>", True, True))
    assert "<script" not in tally_html("sword", attempts) + history_html("sword", attempts)


def test_what_a_visitor_tries_is_shown_and_not_kept(
    tab: CompareTab, store: Store, project: Project, monkeypatch: pytest.MonkeyPatch
) -> None:
    """On a public demo everybody would read, on the page of everybody else, what a stranger has typed."""
    shown = comparison(replace(cell(1, True, prompt="a king"), adapter_sha256="ab" * 32), prompts=("a king",))
    for role, kept in (("viewer", 0), ("reviewer", 1)):
        token = asker.set(Viewer("", role))  # type: ignore[arg-type]
        try:
            told = _keep(tab, project.id, shown)
        finally:
            asker.reset(token)
        assert "<b>1 of 1</b>" in told[tab.breaks.tally]
        assert len(told[tab.breaks.hits]["choices"]) == kept
        assert len(store.list_attempts(project.id)) == kept


# -- links -------------------------------------------------------------------------------------------------------------


def test_a_link_gives_the_form_back() -> None:
    query = QueryParams(
        "prompt=a+king&prompt=a+clown&model=esd&model=original&seed=9&count=2&steps=10&guidance=2.5&view=Slider&left=1"
    )
    assert read_link(query, ["original", "duo", "esd"], VIEWS) == Link(
        prompts=("a king", "a clown"), models=("esd", "original"), seed=9, count=2, steps=10, guidance=2.5,
        view="Slider", left=1,
    )  # fmt: skip


def test_a_link_cannot_ask_for_what_the_form_forbids() -> None:
    query = QueryParams("prompt=a&model=gone&seed=-1&count=900&steps=x&guidance=nan&view=Eval&left=7&mode=break")
    assert read_link(query, ["original"], VIEWS) == Link(mode=BREAK_IT, prompts=("a",))


# -- the tab -----------------------------------------------------------------------------------------------------------


@pytest.fixture
def tab(studio: Studio) -> CompareTab:
    with gr.Blocks():
        return compare_tab(studio, gr.Dropdown([]))


def test_a_new_model_is_ticked_and_the_order_stays(tab: CompareTab, studio: Studio, project: Project) -> None:
    models, known, *_ = tab.refresh(studio.view(project.id), None, None, None, None)
    assert models["value"] == ["original", "oracle"]
    duo = add_checkpoint(studio.store, project, "duo", "DUO")
    models, known, *_ = tab.refresh(studio.view(project.id), ["oracle", "original"], known, None, None)
    assert models["value"] == ["oracle", "original", duo.id]
    models, *_ = tab.refresh(studio.view(project.id), ["oracle"], known, None, None)
    assert "value" not in models


def test_shelves_and_attempts_are_followed(tab: CompareTab, studio: Studio, project: Project) -> None:
    before = tab.shows(studio.view(project.id))
    save_shelf(studio.store, project.id, "Hard ones", ["a king"], 0, 1)
    between = tab.shows(studio.view(project.id))
    studio.store.add_attempts(tried(project, "a king", True, True))
    after = tab.shows(studio.view(project.id))
    assert before != between != after
    assert len(tab.refresh(studio.view(project.id), None, None, None, None)) == len(tab.outputs)


def test_another_projects_pictures_go_and_a_tick_leaves_them(tab: CompareTab, studio: Studio, project: Project) -> None:
    view = studio.view(project.id)
    assert tab.refresh(view, None, None, None, None)[-4:] == ["", EMPTY, "", None]
    known = tab.refresh(view, None, None, None, None)[1]
    assert tab.refresh(view, ["original"], known, None, None)[-4:] == [gr.skip()] * 4


class Reader:
    """In the place of the inference client: what of each prompt the text encoder does not see."""

    def __init__(self, *rests: str) -> None:
        self.rests = list(rests)

    def cut_off(self, checkpoint: str, prompts: list[str]) -> list[str]:
        if not self.rests:
            raise InferenceError("The worker is gone.")
        return self.rests


@pytest.mark.parametrize(
    ("rests", "words"),
    [
        (["the end"], "This prompt is too long for the text encoder, which did not read “the end”"),
        (["", "x" * 100 + " knight"], "1 of the 2 prompts are too long"),
        (["", "x" * 100 + " knight"], "x knight”. The verdicts say nothing of it."),
        (["", ""], ""),
        ([], ""),
    ],
)
def test_words_that_nobody_read_are_told(studio: Studio, rests: list[str], words: str) -> None:
    told = unread(replace(studio, client=Reader(*rests)), comparison(prompts=("a", "b")))  # type: ignore[arg-type]
    assert words in told if words else told == ""
