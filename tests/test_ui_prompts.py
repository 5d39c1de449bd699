"""Projects and the Prompts tab without a browser: rows over HTTP, downloads, templates and files, and their checks."""

from __future__ import annotations

import json
import threading
from collections.abc import Callable, Iterator
from dataclasses import replace
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import gradio as gr
import pytest
from starlette.applications import Starlette
from starlette.testclient import TestClient

from studio.detector_configs import DETECTOR_CONFIGS
from studio.inference.client import InferenceError
from studio.projects import ProjectError
from studio.prompt_files import read_prompts
from studio.records import ImagePair, Job, Project, PromptPair
from studio.settings import Settings
from studio.store import Store, StoreError
from studio.ui.context import Studio
from studio.ui.cut_offs import CutOffs
from studio.ui.forms import FormError
from studio.ui.projects import ProjectPanel, _panel, change, create
from studio.ui.prompt_sources import FILE, PRESET, TEMPLATE, add_prompts, preview, read_upload
from studio.ui.prompt_table import prompt_routes, summary
from studio.ui.prompts import PromptsTab

ROW = {"key": "new-1", "id": "", "unsafe": "a knight", "safe": "a gardener", "count": "2", "seed": ""}


@pytest.fixture
def project(store: Store) -> Project:
    return store.create_project(Project("", "My Sword!", "sword", "toybox", "toybox"))


@pytest.fixture
def web(store: Store) -> TestClient:
    return TestClient(Starlette(routes=prompt_routes(store)), raise_server_exceptions=True)


@pytest.fixture
def post(web: TestClient, project: Project) -> Callable[..., dict[str, Any]]:
    def ask(path: str, *rows: dict[str, str], removed: tuple[str, ...] = ()) -> dict[str, Any]:
        body = {"rows": list(rows), "removed": list(removed)}
        answer = web.post(f"/studio/prompts/{project.id}/{path}", json=body)
        assert answer.status_code == 200, answer.text
        return answer.json()

    return ask


def saved(store: Store, project: Project) -> list[tuple[str, str, int, int]]:
    return [(pair.unsafe, pair.safe, pair.count, pair.seed) for pair in store.list_prompt_pairs(project.id)]


def add_picture(store: Store, pair: PromptPair) -> None:
    store.add_image_pair(ImagePair("", pair.project_id, pair.id, 0, seed=pair.seed, state="ready"))


# -- the store ---------------------------------------------------------------------------------------------------


@pytest.fixture
def pair(store: Store, project: Project) -> PromptPair:
    return store.add_prompt_pairs([PromptPair("", project.id, "a knight", "a gardener", 2)])[0]


def test_a_prompt_pair_can_be_changed_and_removed(store: Store, project: Project, pair: PromptPair) -> None:
    store.update_prompt_pair(pair.id, unsafe="a viking", count=3, seed=9)
    assert saved(store, project) == [("a viking", "a gardener", 3, 9)]
    store.remove_prompt_pair(pair.id)
    store.remove_prompt_pair(pair.id)
    assert saved(store, project) == []


def test_what_pictures_were_made_of_stays(store: Store, project: Project, pair: PromptPair) -> None:
    add_picture(store, pair)
    for changes in ({"unsafe": "a viking"}, {"safe": "a baker"}, {"seed": 9, "count": 5}):
        with pytest.raises(StoreError, match="1 pair of pictures was made of this row's words"):
            store.update_prompt_pair(pair.id, **changes)
    with pytest.raises(StoreError, match="Set its count to 0"):
        store.remove_prompt_pair(pair.id)
    store.update_prompt_pair(pair.id, unsafe=pair.unsafe, seed=pair.seed, count=0)
    assert saved(store, project) == [("a knight", "a gardener", 0, 0)]
    assert store.made_of_prompts(project.id) == {pair.id: 1}


def test_a_group_is_saved_and_changes_after_pictures_were_made(
    post: Callable, store: Store, project: Project, pair: PromptPair
) -> None:
    add_picture(store, pair)
    row = ROW | {"key": pair.id, "id": pair.id, "count": "2", "seed": "0", "group": " blades "}
    answer = post("save", row)
    assert answer["problems"] == {}
    assert [told["group"] for told in answer["rows"]] == ["blades"]
    assert store.list_prompt_pairs(project.id) == [replace(pair, group="blades")]


def test_prompts_stay_while_pictures_are_made_of_them(store: Store, project: Project, pair: PromptPair) -> None:
    job = store.create_job(Job("", project.id, "pairs", {}))
    store.update_prompt_pair(pair.id, seed=1)  # the waiting job has not read it yet
    store.update_job(job.id, state="running")
    with pytest.raises(StoreError, match="are just being made"):
        store.update_prompt_pair(pair.id, unsafe="a viking")
    with pytest.raises(StoreError, match="are just being made"):
        store.remove_prompt_pair(pair.id)
    store.update_prompt_pair(pair.id, count=9)
    store.update_job(job.id, state="done")
    store.remove_prompt_pair(pair.id)


def test_a_refused_change_leaves_the_others_of_its_transaction(
    store: Store, project: Project, pair: PromptPair
) -> None:
    add_picture(store, pair)
    with store.transaction():
        with pytest.raises(StoreError):
            store.remove_prompt_pair(pair.id)
        store.add_prompt_pairs([PromptPair("", project.id, "a viking", "a baker")])
    assert len(saved(store, project)) == 2


def test_a_broken_transaction_changes_nothing(store: Store, project: Project, pair: PromptPair) -> None:
    def broken() -> None:
        with store.transaction():
            store.update_prompt_pair(pair.id, count=7)
            raise ZeroDivisionError

    with pytest.raises(ZeroDivisionError):
        broken()
    assert saved(store, project)[0][2] == 2


# -- the table's rows --------------------------------------------------------------------------------------------


def test_good_rows_are_saved_and_bad_ones_say_why(post: Callable, store: Store, project: Project) -> None:
    answer = post("save", ROW, ROW | {"key": "new-2", "safe": "A Knight"}, ROW | {"key": "new-3", "unsafe": "a viking"})
    assert answer["problems"] == {"new-2": "Both prompts are equal: they must differ in the concept to forget."}
    assert saved(store, project) == [("a knight", "a gardener", 2, 0), ("a viking", "a gardener", 2, 2)]
    assert list(answer["ids"]) == ["new-1", "new-3"]
    assert [row["id"] for row in answer["rows"]] == list(answer["ids"].values())
    assert answer["rows"][0] | {"id": ""} == {
        "id": "", "unsafe": "a knight", "safe": "a gardener", "count": "2", "seed": "0", "group": "", "made": 0
    }  # fmt: skip
    assert answer["summary"].startswith("2 prompt pairs ask for 4 pairs of pictures; none")


def test_a_check_saves_nothing(post: Callable, store: Store, project: Project, pair: PromptPair) -> None:
    answer = post("check", ROW | {"seed": "0"}, ROW | {"key": "new-2", "count": "many"})
    assert "there already" in answer["problems"]["new-1"]
    assert "Count is 'many'" in answer["problems"]["new-2"]
    assert len(saved(store, project)) == 1


def test_a_changed_row_is_no_duplicate_of_itself(
    post: Callable, store: Store, project: Project, pair: PromptPair
) -> None:
    row = ROW | {"key": pair.id, "id": pair.id, "count": "5", "seed": "0"}
    assert post("check", row)["problems"] == {}
    assert post("save", row)["ids"] == {pair.id: pair.id}
    assert saved(store, project) == [("a knight", "a gardener", 5, 0)]


def test_removals_and_additions_are_one_change(
    post: Callable, store: Store, project: Project, pair: PromptPair
) -> None:
    answer = post("save", ROW | {"seed": "0"}, removed=(pair.id,))
    assert answer["problems"] == {}
    assert [row["id"] for row in answer["rows"]] == [answer["ids"]["new-1"]] != [pair.id]


def test_a_row_with_pictures_is_not_removed_and_says_so(
    post: Callable, store: Store, project: Project, pair: PromptPair
) -> None:
    add_picture(store, pair)
    answer = post("save", removed=(pair.id,))
    assert "which therefore stays" in answer["problems"][pair.id]
    assert answer["rows"][0]["made"] == 1
    changed = post("save", ROW | {"key": pair.id, "id": pair.id, "unsafe": "a viking", "seed": "0"})
    assert "Write the new ones into another row" in changed["problems"][pair.id]


def test_what_somebody_removed_meanwhile_is_saved_anew(
    post: Callable, store: Store, project: Project, pair: PromptPair
) -> None:
    store.remove_prompt_pair(pair.id)
    answer = post("save", ROW | {"key": pair.id, "id": pair.id, "unsafe": "a viking"})
    assert answer["ids"][pair.id] != pair.id
    assert saved(store, project) == [("a viking", "a gardener", 2, 0)]


def test_rows_of_another_project_are_out_of_reach(post: Callable, store: Store, project: Project) -> None:
    other = store.create_project(Project("", "Other", "sword", "toybox", "toybox"))
    (foreign,) = store.add_prompt_pairs([PromptPair("", other.id, "x", "y")])
    post("save", ROW | {"id": foreign.id, "key": "k"}, removed=(foreign.id,))
    assert saved(store, other) == [("x", "y", 1, 0)]


@pytest.mark.parametrize(
    ("path", "options", "status"),
    [
        ("{id}/save", {"json": {"rows": [{"key": "a", "extra": 1}]}}, 422),
        ("{id}/save", {"json": {"rows": [{"key": "a", "unsafe": 1}]}}, 422),
        ("{id}/save", {"content": "{}", "headers": {"content-type": "text/plain"}}, 415),
        ("{id}/save", {"json": {}, "headers": {"sec-fetch-site": "cross-site"}}, 403),
        ("{id}/check", {"json": {}, "headers": {"origin": "http://elsewhere"}}, 403),
        ("unknown/save", {"json": {}}, 404),
    ],
)
def test_other_requests_are_refused(
    web: TestClient, project: Project, path: str, options: dict[str, Any], status: int
) -> None:
    answer = web.post("/studio/prompts/" + path.format(id=project.id), **options)
    assert answer.status_code == status
    assert answer.json()["error"]


def test_prompts_are_downloaded_and_read_back(web: TestClient, store: Store, project: Project, tmp_path: Path) -> None:
    store.add_prompt_pairs([PromptPair("", project.id, '=1+"é"', "a gardener, smiling", 3, 7)])
    for kind in ("csv", "jsonl"):
        answer = web.get(f"/studio/prompts/{project.id}.{kind}")
        assert answer.headers["content-disposition"] == f'attachment; filename="my-sword-prompts.{kind}"'
        file = tmp_path / f"p.{kind}"
        file.write_bytes(answer.content)
        assert read_prompts(file) == [PromptPair("", "", '=1+"é"', "a gardener, smiling", 3, 7)]
    for wrong in (f"{project.id}.txt", "unknown.csv", project.id):
        assert web.get(f"/studio/prompts/{wrong}").status_code == 404


def test_the_sentence_under_the_table_counts() -> None:
    pairs = [PromptPair("1", "", "a", "b", 3), PromptPair("2", "", "c", "d", 1)]
    assert summary(pairs, {}) == "2 prompt pairs ask for 4 pairs of pictures; none of them is made yet."
    assert summary(pairs, {"1": 1}).endswith("; 1 of them is made.")
    assert summary(pairs, {"1": 3}).endswith("; 3 of them are made.")
    assert summary(pairs, {"1": 5, "2": 1}).endswith("; all of them are made.")
    assert summary(pairs[1:], {}).startswith("1 prompt pair asks for 1 pair of pictures")


# -- what the text encoder does not see --------------------------------------------------------------------------


class Answering:
    """A client whose worker takes its time."""

    def __init__(self) -> None:
        self.asked: list[list[str]] = []
        self.go = threading.Event()
        self.error = ""

    def cut_off(self, checkpoint: str, prompts: list[str]) -> list[str]:
        self.asked.append(prompts)
        assert self.go.wait(10)
        if self.error:
            raise InferenceError(self.error)
        return ["end" if prompt.startswith("long") else "" for prompt in prompts]


def settle(cut_offs: CutOffs, version: int) -> None:
    for thread in threading.enumerate():
        if thread.name == "cut-offs":
            thread.join(10)
    assert cut_offs.version == version


def test_cut_off_words_come_later_and_are_asked_once() -> None:
    client = Answering()
    cut_offs = CutOffs(client)  # type: ignore[arg-type]
    cut_offs.ask("toybox", ["long a", "b", "b"])
    cut_offs.ask("toybox", ["b", "long a"])  # asked already
    assert cut_offs.known("toybox", ["long a", "b"]) == {}
    client.go.set()
    settle(cut_offs, 1)
    assert client.asked == [["long a", "b"]]
    assert cut_offs.known("toybox", ["long a", "b", "c"]) == {"long a": "end"}
    assert cut_offs.known("other", ["long a"]) == {}


def test_a_checkpoint_that_cannot_be_asked_is_said_and_not_asked_again_by_itself() -> None:
    client = Answering()
    client.error = "no such folder"
    client.go.set()
    cut_offs = CutOffs(client)  # type: ignore[arg-type]
    cut_offs.ask("x", ["long a"])
    settle(cut_offs, 1)
    assert cut_offs.problem("x") == "no such folder"
    cut_offs.ask("x", ["long a"])
    settle(cut_offs, 1)
    client.error = ""
    cut_offs.ask("x", ["long a"], again=True)
    settle(cut_offs, 2)
    assert (cut_offs.problem("x"), cut_offs.known("x", ["long a"])) == ("", {"long a": "end"})


@pytest.fixture
def studio(settings: Settings, store: Store) -> Studio:
    client = Answering()
    client.go.set()
    return Studio(settings, store, None, client)  # type: ignore[arg-type]


def test_the_tab_tells_rows_cut_offs_and_sets(studio: Studio, project: Project, store: Store) -> None:
    store.add_prompt_pairs([PromptPair("", project.id, "long prompt", "a gardener")])
    tab = PromptsTab(studio, CutOffs(studio.client), None, SimpleNamespace(preset=None))  # type: ignore[arg-type]
    view = studio.view(project.id)
    before = tab.shows(view)
    assert tab.shows(studio.view(project.id)) == before
    told, sets = tab.refresh(view, None)
    assert [row["unsafe"] for row in json.loads(told)["rows"]] == ["long prompt"]
    assert (sets["choices"], sets["value"]) == (["Sword"], "Sword")
    settle(tab.cut_offs, 1)
    assert tab.shows(view) != before
    assert json.loads(tab.refresh(view, "Sword")[0])["cuts"] == {"long prompt": "end"}
    add_picture(store, store.list_prompt_pairs(project.id)[0])
    assert tab.shows(studio.view(project.id)) != tab.shows(view)


# -- many at once ------------------------------------------------------------------------------------------------


def asked(
    source: str,
    unsafe: str = "",
    safe: str = "",
    count: str = "1",
    preset: str = "",
    file: Any = ("", []),
    group: str = "",
):
    return source, unsafe, safe, count, group, preset, file


def test_a_template_is_shown_before_it_is_added(store: Store, project: Project) -> None:
    store.add_prompt_pairs([PromptPair("", project.id, "a knight", "a clown", 1, 5)])
    words = asked(TEMPLATE, "a {knight|<b>}", "a {clown}", "3")
    text, button = preview(store, project.id, *words)
    assert "1 new prompt pair</b>, 3 pairs of pictures, 1 there already." in text
    assert "a &lt;b&gt;" in text
    assert (button["value"], button["interactive"]) == ("Add 1 prompt pair", True)
    assert len(saved(store, project)) == 1
    assert "1 prompt pair was added" in add_prompts(store, project.id, *words)[0]
    assert saved(store, project)[1] == ("a <b>", "a clown", 3, 6)
    assert "Nothing new was added" in add_prompts(store, project.id, *words)[0]


def test_a_templates_pairs_may_be_a_group(store: Store, project: Project) -> None:
    add_prompts(store, project.id, *asked(TEMPLATE, "a {knight|samurai}", "a {clown}", group="blades"))
    assert [pair.group for pair in store.list_prompt_pairs(project.id)] == ["blades", "blades"]


def test_long_lists_show_eight_and_say_how_many_more(store: Store, project: Project) -> None:
    text, _ = preview(store, project.id, *asked(PRESET, preset="Sword"))
    assert "96 new prompt pairs" in text
    assert text.count("<li>") == 8
    assert "and 88 more" in text


@pytest.mark.parametrize(
    ("words", "shown"),
    [
        (asked(TEMPLATE, "a {b", "c"), "without"),
        (asked(TEMPLATE, "a", "c", "many"), "Count is"),
        (asked(TEMPLATE, "a", "A"), "a: Both prompts are equal"),
        (asked(TEMPLATE, "a", " "), ""),
        (asked(PRESET, preset="Nudity"), ""),  # not for the embedded checkpoint
        (asked(FILE), ""),
        (asked(FILE, file=None), ""),
    ],
)
def test_what_cannot_be_added_leaves_the_button_off(store: Store, project: Project, words: Any, shown: str) -> None:
    text, button = preview(store, project.id, *words)
    assert shown in text
    assert not button["interactive"]
    add_prompts(store, project.id, *words)
    assert saved(store, project) == []


def test_an_uploaded_file_is_read_and_not_kept(store: Store, project: Project, tmp_path: Path) -> None:
    file = tmp_path / "mine.csv"
    file.write_text("unsafe,safe,count\na knight,a gardener,2\na viking,,1\n")
    found, problem = read_upload(str(file))
    assert problem == ""
    assert not file.exists()
    text, button = preview(store, project.id, *asked(FILE, file=found))
    assert "1 with a problem" in text
    assert "mine.csv, line 3: The safe prompt is empty" in text
    assert button["value"] == "Add 1 prompt pair"
    file.write_bytes(b"\xff")
    found, problem = read_upload(str(file))
    assert found == ("", [])
    assert "mine.csv, line 1: this is not UTF-8" in problem
    assert not file.exists()
    assert read_upload(None) == (("", []), "")


# -- projects ----------------------------------------------------------------------------------------------------


@pytest.fixture
def panel() -> Iterator[ProjectPanel]:
    with gr.Blocks():
        yield _panel()


def test_the_panel_opens_empty_and_with_a_project(panel: ProjectPanel, project: Project) -> None:
    for updates in (panel.open_new(), panel.open_edit(project)):
        assert len(updates) == len(panel.shown)
    by_name = dict(zip(panel.fields, panel.open_edit(project)[5:], strict=False))
    assert by_name[panel.name]["value"] == "My Sword!"
    assert by_name[panel.checkpoint]["interactive"] is False
    shown = [update["visible"] for update in panel.visible("nudenet")]
    assert shown == [name == "nudenet" for name in DETECTOR_CONFIGS]


def test_each_detectors_values_are_its_own(panel: ProjectPanel) -> None:
    values = tuple(range(len(panel.settings)))
    parts = [panel.form_values(name, values) for name in DETECTOR_CONFIGS]
    assert [value for part in parts for value in part] == list(values)
    with pytest.raises(ProjectError, match="no detector 'nose'"):
        panel.form_values("nose", values)


def test_a_project_is_made_once(panel: ProjectPanel, store: Store) -> None:
    form = panel.forms["toybox"]
    asked_for = {"name": "Rose", "concept": "flower", "checkpoint": "toybox", "detector": "toybox", "blur": True}
    made = create(store, form, ["flower", 0.7], **asked_for)
    assert store.get_project(made.id).detector_settings == {"concept": "flower", "threshold": 0.7}
    assert made.blur
    with pytest.raises(ProjectError, match="“Rose” already"):
        create(store, form, ["flower", 0.7], **asked_for)
    with pytest.raises(FormError, match="Threshold"):
        create(store, form, ["flower", 7], **{**asked_for, "name": "Other"})
    assert len(store.list_projects()) == 1


def test_settings_can_be_changed_later(panel: ProjectPanel, store: Store, project: Project) -> None:
    store.create_project(Project("", "Other", "cane", "toybox", "toybox"))
    form = panel.forms["toybox"]
    changed = change(store, project, form, ["sword", 0.8], "My sword", True)
    assert (changed.name, changed.blur, changed.detector_settings["threshold"]) == ("My sword", True, 0.8)
    assert changed.checkpoint == project.checkpoint
    with pytest.raises(ProjectError, match="“other” already"):
        change(store, project, form, ["sword", 0.8], "other", True)
