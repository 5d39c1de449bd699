"""The page without a browser: what its handlers answer, what its HTML says, and what its routes give out."""

from __future__ import annotations

import hashlib
from dataclasses import replace
from pathlib import Path

import gradio as gr
import numpy as np
import pytest
from PIL import Image
from starlette.applications import Starlette
from starlette.requests import Request
from starlette.testclient import TestClient

from studio.durations import duration
from studio.hosting.roles import Viewer
from studio.images import put_image
from studio.records import ImagePair, Job, PairCounts, Project, PromptPair, PromptShelf, Verdict
from studio.settings import Settings
from studio.store import Store
from studio.ui import build_ui, launch_options
from studio.ui.activity import failure, jobs_list, running_job
from studio.ui.context import Studio
from studio.ui.path import path_html, steps
from studio.ui.pictures import picture_url, routes
from studio.ui.theme import COLOURS, style_sheet
from studio.ui.veils import VIEW_SIDE
from studio.ui.words import ago, left, pill
from tests.hosted import asking

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


# -- pictures -------------------------------------------------------------------------------------------------------


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


def is_skipped(update: object) -> bool:
    return update == gr.skip()


# -- the whole page ----------------------------------------------------------------------------------------------


def test_the_page_builds_and_offers_no_public_endpoint(studio: Studio, project: Project) -> None:
    page = build_ui(studio.settings, studio.store, studio.runner, studio.client)
    assert page.get_api_info() == {"named_endpoints": {}, "unnamed_endpoints": {}}
    options = launch_options(studio.settings, studio.store)
    assert (options["run_history"], options["enable_monitoring"], options["ssr_mode"]) == (False, False, False)
    assert "allowed_paths" not in options


def test_news_is_a_mark_that_changes_with_the_rows(studio: Studio, store: Store, project: Project) -> None:
    page = build_ui(studio.settings, studio.store, studio.runner, studio.client)
    other = store.create_project(replace(project, id="", name="Another"))
    client = TestClient(Starlette(routes=page.news.routes()))

    def mark(asked: Project) -> str:
        return client.get(f"/studio/news/{asked.id}").json()["mark"]

    first, others = mark(project), mark(other)
    assert mark(project) == first != others
    store.add_prompt_pairs([PromptPair("", project.id, "a knight with a sword", "a knight")])
    assert mark(project) != first
    assert mark(other) == others
    again = build_ui(studio.settings, studio.store, studio.runner, studio.client).news
    servers = {one.answer(Request({"type": "http", "path_params": {"project": project.id}}))["server"] for one in
               (page.news, page.news, again)}  # fmt: skip
    assert len(servers) == 2
    assert client.get("/studio/news/nothing").status_code == 404


def test_a_tick_only_compares(studio: Studio, store: Store, project: Project) -> None:
    """Gradio looks each component of an event up in the whole page, several times an event."""
    page = build_ui(studio.settings, studio.store, studio.runner, studio.client)
    look = next(key for key, block in page.blocks.items() if getattr(block, "elem_id", "") == "duo-look")
    tick = next(event for event in page.fns.values() if (look, "click") in event.targets)
    assert len(tick.inputs) == 2
    assert len(tick.outputs) < 30
    assert all(event.show_progress_on for event in page.fns.values())
    assert tick.fn is not None
    with asking(Viewer("", "viewer")):
        seen, *turns = tick.fn(project.id, [])  # a server that knows nothing of this page
        assert not any(is_skipped(turn) for turn in turns)
        assert all(is_skipped(turn) for turn in tick.fn(project.id, seen))
        store.add_shelf(PromptShelf("", project.id, "Hard ones", "a king"))
        seen, *turns = tick.fn(project.id, seen)
        assert 1 <= sum(not is_skipped(turn) for turn in turns) < 5
        assert all(is_skipped(turn) for turn in tick.fn("another", seen))
        places = {turn._id: turn for turn in tick.outputs[1:]}
        takers = [event for event in page.fns.values() if event.targets[0][0] in places]
        assert len(takers) > 10
        for taker in takers:
            assert taker.fn is not None
            for before in (seen, []):
                filled = taker.fn(project.id, before, *[None] * (len(taker.inputs) - 2))
                assert isinstance(filled, list) == (
                    len(taker.outputs) > 1
                )  # Gradio takes a list for one output's value


def test_app_is_short() -> None:
    app = Path(__file__).parents[1] / "app.py"
    assert len(app.read_text(encoding="utf-8").splitlines()) <= 40
