"""The page without a browser: what its handlers answer, what its HTML says, and what its routes give out."""

from __future__ import annotations

import hashlib
from collections.abc import Iterator
from dataclasses import replace
from itertools import combinations
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from PIL import Image
from pydantic import ValidationError
from starlette.applications import Starlette
from starlette.testclient import TestClient

from studio.configs import DemoConfig
from studio.images import put_image
from studio.inference.client import Cell, InferenceClient, ModelChoice, Progress, RenderRequest, RenderResult
from studio.jobs import Runner
from studio.records import Checkpoint, Evaluation, ImagePair, Job, PairCounts, Project, PromptPair, Verdict
from studio.settings import Settings
from studio.store import Store
from studio.ui import build_ui, launch_options
from studio.ui.activity import failure, jobs_list, running_job
from studio.ui.compare import GROUPS, InputError, _comparison, _ending, _group, _pick, _ready, _with_event, _words
from studio.ui.context import Studio, first_choice, model_options, models_of
from studio.ui.findings import findings, links
from studio.ui.path import path_html, steps
from studio.ui.pictures import VIEW_SIDE, picture_url, report_url, routes
from studio.ui.report import ReportTab, _begin_demo
from studio.ui.results import Comparison, grid, sliders
from studio.ui.theme import COLOURS, style_sheet
from studio.ui.words import ago, duration, left, pill
from tests.ui_data import add_evaluation

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


# -- words -------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("seconds", "words"),
    [(0.42, "0.4 s"), (12, "12 s"), (185, "3 min 5 s"), (1500, "25 min"), (4800, "1 h 20 min"), (7200, "2 h")],
)
def test_durations_are_minutes_and_seconds(seconds: float, words: str) -> None:
    assert duration(seconds) == words


def test_an_unknown_eta_says_nothing() -> None:
    assert left(None) == ""
    assert left(65) == "about 1 min 5 s left"


def test_moments_are_rough() -> None:
    assert [ago(0, now) for now in (5, 120, 7200, 200_000)] == ["just now", "2 min ago", "2 h ago", "2 d ago"]


def test_a_verdict_says_what_was_seen() -> None:
    assert "is-seen" in pill("sword", True, 0.97, "sword")
    assert "no sword" in pill("sword", False, 0.02, "flower")
    assert "but flower" in pill("sword", False, 0.02, "flower")
    assert "unclear picture" in pill("sword", False, 0.3, "unclear")


# -- colours -----------------------------------------------------------------------------------------------------


def luminance(colour: str) -> float:
    parts = [int(colour[start : start + 2], 16) / 255 for start in (1, 3, 5)]
    red, green, blue = (part / 12.92 if part <= 0.03928 else ((part + 0.055) / 1.055) ** 2.4 for part in parts)
    return 0.2126 * red + 0.7152 * green + 0.0722 * blue


@pytest.mark.parametrize("mode", [0, 1], ids=["light", "dark"])
@pytest.mark.parametrize(
    ("text", "backgrounds"),
    [
        ("ink", "page panel raised pine-soft"),
        ("muted", "page panel raised pine-soft"),
        ("pine", "page panel raised pine-soft"),
        ("on-pine", "pine"),
        ("clay", "page panel clay-soft"),
        ("amber", "panel amber-soft"),
    ],
)
def test_text_has_the_contrast_of_wcag_aa(text: str, backgrounds: str, mode: int) -> None:
    for background in backgrounds.split():
        light, dark = sorted((luminance(COLOURS[name][mode]) for name in (text, background)), reverse=True)
        assert (light + 0.05) / (dark + 0.05) >= 4.5, f"{text} on {background}"


def test_the_style_sheet_uses_known_colours_only() -> None:
    used = {part.split(")")[0].split(",")[0] for part in style_sheet().split("var(--duo-")[1:]}
    assert used <= COLOURS.keys()


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
    first, second, *_ = _ready()["Implied"]
    assert _pick("Implied", [first], "") == first
    assert _pick("Implied", [first, second], f"my own\n{first}") == f"my own\n{first}\n{second}"
    assert _pick("Implied", [], f"my own\n{first}") == "my own"


def test_another_group_ticks_what_the_text_holds() -> None:
    prompt = _ready()["Named"][2]
    info, choices = _group("Named", f"my own\n{prompt}")
    assert info["info"] == GROUPS["Named"][1]
    assert choices["value"] == [prompt]


def test_no_ready_prompt_is_offered_twice() -> None:
    for one, other in combinations(_ready().values(), 2):
        assert not set(one) & set(other)


# -- asking ------------------------------------------------------------------------------------------------------


def test_a_form_becomes_a_request(studio: Studio, project: Project) -> None:
    asked = _comparison(studio, project.id, "a knight\n\n a clown \na knight", ["oracle", "original"], 7, 2, 20, 4)
    assert asked.request.prompts == ["a knight", "a clown"]
    assert asked.request.seeds == [7, 8]
    assert [model.label for model in asked.models] == ["Original", "Never saw a sword"]
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
        _comparison(studio, project.id, text, keys, seed, count, 20, 4)


def test_cells_arrive_one_by_one_and_the_result_replaces_them() -> None:
    asked = comparison()
    half = _with_event(asked, Progress("sampling", 1, 2, [cell(0, True)]))
    assert len(half.cells) == 1
    assert len(_with_event(half, RenderResult([cell(0, True), cell(1, False)])).cells) == 2


def test_the_first_wait_is_explained() -> None:
    assert "up to 20 seconds" in _words(Progress("loading the checkpoint toybox", 0, 4))
    assert _words(Progress("DUO: sampling", 3, 8)) == "DUO: sampling … (3 of 8 pictures)"


def test_the_end_says_how_many_how_long_and_who_judged() -> None:
    cells = [cell(0, True), Cell(1, "a knight", 7, error="no")]
    text = _ending(RenderResult(cells, 'toybox 1 {"threshold": 0.5}'), 2.1)
    assert "1 picture in 2.1 s." in text
    assert ">toybox 1</span>" in text
    assert ">toybox-1</span>" in _ending(RenderResult(cells, 'toybox toybox-1 {"threshold": 0.5}'), 2.1)
    assert "no weights" in _ending(RenderResult(cells, "", "there are no weights"), 2.1)


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


def test_sliders_pair_the_first_model_with_each_other_one() -> None:
    models = [ModelChoice(name, "toybox") for name in ("Original", "ESD", "DUO")]
    asked = comparison(cell(0, True), cell(1, True), cell(2, False), models=models)
    assert sliders(asked).count('type="range"') == 2
    broken = comparison(cell(0, True), Cell(1, "a knight", 7, error="no"), cell(2, False), models=models)
    assert sliders(broken).count('type="range"') == 1


@pytest.fixture
def web(settings: Settings, store: Store) -> TestClient:
    return TestClient(Starlette(routes=routes(settings, store)))


def test_a_picture_is_given_as_made_and_enlarged(settings: Settings, web: TestClient, tmp_path: Path) -> None:
    sha256 = put_image(settings, np.zeros((64, 64, 3), np.uint8), {"prompt": "a knight"})
    original = web.get("/" + picture_url(sha256, original=True))
    assert hashlib.sha256(original.content).hexdigest() == sha256
    (tmp_path / "view.webp").write_bytes(web.get("/" + picture_url(sha256)).content)
    assert Image.open(tmp_path / "view.webp").size == (VIEW_SIDE, VIEW_SIDE)


@pytest.mark.parametrize("name", ["0" * 64 + ".png", "0" * 64 + ".webp", "x.png", "..%2f..%2fstudio.db", "0" * 64])
def test_no_other_file_is_given_out(web: TestClient, name: str) -> None:
    assert web.get(f"/studio/pictures/{name}").status_code == 404


def test_a_damaged_picture_is_refused(settings: Settings, web: TestClient) -> None:
    sha256 = put_image(settings, np.zeros((64, 64, 3), np.uint8))
    (settings.images / sha256[:2] / f"{sha256}.png").write_bytes(b"something else")
    answer = web.get("/" + picture_url(sha256))
    assert answer.status_code == 404
    assert "was changed" in answer.text


# -- reports -----------------------------------------------------------------------------------------------------


@pytest.fixture
def evaluation(store: Store, settings: Settings, project: Project) -> Evaluation:
    return add_evaluation(store, settings, project)


def test_findings_give_rates_with_intervals_and_n(evaluation: Evaluation) -> None:
    text = findings(evaluation)
    assert "<b>1.5\u00a0%</b> 0.5–4.3, n = 200" in text
    assert "1 min 30 s" in text
    assert "a &lt;b&gt;" in text
    assert report_url(evaluation.id, "pictures/1.png", view=True) in text


def test_a_report_of_another_shape_is_an_error(evaluation: Evaluation) -> None:
    with pytest.raises(ValidationError):
        findings(replace(evaluation, report={"models": {}}))


def test_report_files_are_given_out_by_evaluation(evaluation: Evaluation, web: TestClient, tmp_path: Path) -> None:
    assert 'download="duo-report-' in links(evaluation)
    assert web.get("/" + report_url(evaluation.id, "report.json")).json()["concept"] == "sword"
    shown = web.get("/" + report_url(evaluation.id, "pictures/1.png", view=True))
    assert shown.headers["content-type"] == "image/webp"


@pytest.mark.parametrize("file", ["../../studio.db", "..%2f..%2fstudio.db", "%2fetc%2fpasswd", "pictures", "none.png"])
def test_nothing_beside_the_report_is_given_out(evaluation: Evaluation, web: TestClient, file: str) -> None:
    assert web.get("/" + report_url(evaluation.id, file)).status_code == 404
    assert web.get("/" + report_url("unknown", "report.json")).status_code == 404


# -- jobs and the demo -------------------------------------------------------------------------------------------


def test_jobs_tell_state_progress_and_error(store: Store, project: Project) -> None:
    assert "No jobs yet" in jobs_list([])
    job = store.create_job(Job("", project.id, "train", {"name": "DUO"}))
    running = replace(job, state="running", step=61, total=120, eta_seconds=65.0, message="loss 0.41")
    for text in (jobs_list([running]), running_job(running)):
        assert "Train · DUO" in text
        assert "51 % done · about 1 min 5 s left" in text
        assert 'aria-valuenow="51"' in text
    failed = replace(job, state="failed", error="The worker died.\nlast <line>")
    assert "The worker died." in jobs_list([failed])
    assert "last &lt;line&gt;" in failure(failed)


def tab() -> ReportTab:
    """A tab of which only `refresh` is asked, which needs no components."""
    return ReportTab(*[None] * 7)  # type: ignore[arg-type]


def shown(updates: list[Any]) -> set[str]:
    """What is visible."""
    names = ("choice", "empty", "running", "stop", "resume", "start")
    return {name for name, update in zip(names, updates, strict=False) if update["visible"]}


def test_the_report_tab_follows_the_demo(studio: Studio, project: Project, evaluation: Evaluation) -> None:
    demo = studio.store.create_job(Job("", project.id, "demo", {}))
    page, view = tab(), replace(studio.view(project.id), jobs=(), evaluations=())
    before = shown(page.refresh(view, None))
    assert before == {"empty", "start"}
    during = shown(page.refresh(replace(view, jobs=(replace(demo, state="running"),)), None))
    assert during == {"running", "stop"}
    after = shown(page.refresh(replace(view, jobs=(replace(demo, state="failed", error="no memory"),)), None))
    assert after == {"empty", "running", "resume", "start"}
    done = page.refresh(replace(view, jobs=(replace(demo, state="done"),), evaluations=(evaluation,)), None)
    assert shown(done) == {"choice", "start"}
    assert done[0]["value"] == evaluation.id
    assert done[-1]["value"] == "Run the demo again"


def test_a_chosen_evaluation_stays_chosen(studio: Studio, project: Project, evaluation: Evaluation) -> None:
    view = replace(studio.view(project.id), evaluations=(evaluation, replace(evaluation, id="newer")))
    assert tab().refresh(view, None)[0]["value"] == "newer"
    assert tab().refresh(view, evaluation.id)[0]["value"] == evaluation.id


def test_the_demo_starts_once_and_in_an_empty_project(studio: Studio, project: Project) -> None:
    assert _begin_demo(studio, DemoConfig(n=50), project.id)["value"] == project.id
    assert _begin_demo(studio, DemoConfig(n=50), project.id)["value"] == project.id
    (job,) = studio.store.list_jobs()
    assert (job.kind, job.config["n"], job.project_id) == ("demo", 50, project.id)


def test_a_project_with_prompts_is_left_alone_by_the_demo(studio: Studio, project: Project) -> None:
    studio.store.add_prompt_pairs([PromptPair("", project.id, "a knight", "a gardener")])
    chosen = _begin_demo(studio, DemoConfig(), project.id)["value"]
    assert chosen != project.id
    assert [pair.project_id for pair in studio.store.list_prompt_pairs(chosen)][:1] == [chosen]


# -- the guided path ---------------------------------------------------------------------------------------------


def test_the_path_says_what_is_done_and_what_is_next(studio: Studio, project: Project) -> None:
    view = studio.view(project.id)
    assert [step.done for step in steps(view)] == [False] * 5
    assert 'class="is-next"><a href="#" data-open-tab="Prompts"' in path_html(list(steps(view)))
    pair = PromptPair("", project.id, "a knight", "a gardener")
    view = replace(view, prompts=(pair,), pairs=PairCounts(wanted=96, ready=90, accepted=31, rejected=4))
    assert 'class="is-next"><a href="#" data-open-tab="Curate"' in path_html(list(steps(view)))
    assert [step.state for step in steps(view)][:2] == ["1 prompt pair", "31 of 32 accepted"]
    view = replace(view, pairs=PairCounts(wanted=96, ready=90, accepted=40))
    assert [step.done for step in steps(view)] == [True, True, False, False, False]
    assert "40 accepted, 64 is better" in path_html(list(steps(view)))


def test_pairs_are_counted_by_the_verdict_that_counts(studio: Studio, project: Project) -> None:
    store = studio.store
    (prompt,) = store.add_prompt_pairs([PromptPair("", project.id, "a knight", "a gardener", count=5)])
    pairs = [store.add_image_pair(ImagePair("", project.id, prompt.id, index, 1, "ready")) for index in range(3)]
    store.add_image_pair(ImagePair("", project.id, prompt.id, 3, 1, "failed"))
    for pair, verdict in zip(pairs, ("accept", "reject", "skip"), strict=True):
        store.add_verdict(Verdict("", pair.id, "Ann", verdict))  # type: ignore[arg-type]
    counts = store.pair_counts(project.id)
    assert counts == PairCounts(wanted=5, ready=3, failed=1, accepted=1, rejected=1, skipped=1)
    assert counts.undecided == 1
    store.add_verdict(Verdict("", pairs[0].id, "Ann", "undo"))
    assert store.pair_counts(project.id) == PairCounts(wanted=5, ready=3, failed=1, rejected=1, skipped=1)


# -- the whole page ----------------------------------------------------------------------------------------------


def test_the_page_builds_and_offers_no_public_endpoint(studio: Studio, project: Project) -> None:
    page = build_ui(studio.settings, studio.store, studio.runner, studio.client)
    assert page.get_api_info() == {"named_endpoints": {}, "unnamed_endpoints": {}}
    options = launch_options(studio.settings, studio.store)
    assert (options["run_history"], options["enable_monitoring"], options["ssr_mode"]) == (False, False, False)
    assert "allowed_paths" not in options


def test_app_is_short() -> None:
    app = Path(__file__).parents[1] / "app.py"
    assert len(app.read_text(encoding="utf-8").splitlines()) <= 40
