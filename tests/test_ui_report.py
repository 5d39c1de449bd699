"""The Report tab without a browser: figures, two runs side by side, evaluations, and what its routes give out."""

from __future__ import annotations

import csv
import json
from dataclasses import replace
from io import StringIO
from pathlib import Path
from typing import Any

import gradio as gr
import pytest
from pydantic import ValidationError
from starlette.applications import Starlette
from starlette.testclient import TestClient

from studio.configs import DemoConfig, EvaluateConfig
from studio.prompt_sources import PromptFileError
from studio.records import Checkpoint, Evaluation, Job, Project, PromptPair
from studio.settings import Settings
from studio.store import Store
from studio.ui.context import Studio, View
from studio.ui.evaluate import MORE, SHOWN, start_evaluation
from studio.ui.findings import findings, links
from studio.ui.forms import FormError
from studio.ui.pictures import report_url, routes
from studio.ui.protocol_form import about_html, keep_file
from studio.ui.report import ReportTab, _begin_demo, _beside, report_routes, report_tab
from studio.ui.two_runs import two_runs
from tests.ui_data import add_checkpoint, add_evaluation


@pytest.fixture
def web(settings: Settings, store: Store) -> TestClient:
    return TestClient(Starlette(routes=routes(settings, store)))


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


@pytest.fixture
def tab(studio: Studio) -> ReportTab:
    with gr.Blocks():
        return report_tab(studio, gr.Dropdown([]))


def refreshed(tab: ReportTab, view: View, chosen: str | None = None, second: str | None = None) -> dict[str, Any]:
    """The updates by the names of the components."""
    names = (
        "choice",
        "second",
        "empty",
        "running",
        "stop",
        "resume",
        "start",
        "full",
        "box",
        "models",
        "known",
        "oracle",
        "attacks",
    )
    return dict(zip(names, tab.refresh(view, chosen, second, None, None), strict=True))


def shown(updates: dict[str, Any]) -> set[str]:
    """What is visible."""
    return {name for name in ("choice", "second", "empty", "running", "stop", "resume", "start")
            if updates[name]["visible"]}  # fmt: skip


def test_the_report_tab_follows_the_demo(
    tab: ReportTab, studio: Studio, project: Project, evaluation: Evaluation
) -> None:
    demo = studio.store.create_job(Job("", project.id, "demo", {}))
    view = replace(studio.view(project.id), jobs=(), evaluations=())
    assert shown(refreshed(tab, view)) == {"empty", "start"}
    during = refreshed(tab, replace(view, jobs=(replace(demo, state="running"),)))
    assert shown(during) == {"running", "stop"}
    assert during["stop"]["value"] == "Stop the demo"
    after = refreshed(tab, replace(view, jobs=(replace(demo, state="failed", error="no memory"),)))
    assert shown(after) == {"empty", "running", "resume", "start"}
    done = refreshed(tab, replace(view, jobs=(replace(demo, state="done"),), evaluations=(evaluation,)))
    assert shown(done) == {"choice", "start"}
    assert done["choice"]["value"] == evaluation.id
    assert done["full"]["value"].startswith("Run the demo again")


def test_an_evaluation_is_followed_too_and_other_projects_have_no_demo(
    tab: ReportTab, studio: Studio, project: Project
) -> None:
    own = replace(project, checkpoint="/models/own", concept="gun")
    job = Job("1", project.id, "evaluate", {}, state="running")
    view = replace(studio.view(project.id), project=own, jobs=(job,))
    during = refreshed(tab, view)
    assert shown(during) == {"running", "stop"}
    assert during["stop"]["value"] == "Stop the evaluation"
    assert during["box"]["visible"] is False  # nothing is trained, and there is no oracle
    idle = refreshed(tab, replace(view, jobs=()))
    assert shown(idle) == {"empty"}
    assert "Train a model" in idle["empty"]["value"]


def test_a_chosen_evaluation_stays_chosen(
    tab: ReportTab, studio: Studio, project: Project, evaluation: Evaluation
) -> None:
    view = replace(studio.view(project.id), evaluations=(evaluation, replace(evaluation, id="newer")))
    first = refreshed(tab, view)
    assert first["choice"]["value"] == "newer"
    assert first["second"]["visible"] is True
    again = refreshed(tab, view, evaluation.id, "newer")
    assert (again["choice"]["value"], again["second"]["value"]) == (evaluation.id, "newer")
    assert refreshed(tab, view, evaluation.id, "gone")["second"]["value"] == ""


# -- asking for an evaluation --------------------------------------------------------------------------------------


def test_a_new_model_is_ticked_and_an_unticked_one_stays_so(tab: ReportTab, studio: Studio, project: Project) -> None:
    duo = add_checkpoint(studio.store, project, "duo", "DUO")
    _, models, known, *_ = tab.form.refresh(studio.view(project.id), None, None)
    assert models["value"] == [duo.id]
    esd = add_checkpoint(studio.store, project, "esd", "ESD")
    _, models, known, *_ = tab.form.refresh(studio.view(project.id), [], known)
    assert models["value"] == [esd.id]
    assert "value" not in tab.form.refresh(studio.view(project.id), [], known)[1]
    sweep = studio.store.create_job(Job("", project.id, "sweep", {}))
    path = studio.store.get_checkpoint(duo.id).path
    swept = studio.store.add_checkpoint(Checkpoint("", project.id, sweep.id, "duo", "DUO beta 1", path, "0", "lora"))
    assert tab.form.refresh(studio.view(project.id), None, None)[1]["value"] == [duo.id, esd.id], "none of the sweep"
    _, models, *_ = tab.form.refresh(studio.view(project.id), [esd.id, swept.id], known)
    assert models["value"] == [esd.id, swept.id], "but where it was ticked"


NO_PROTOCOL: tuple[Any, ...] = ("", {"prompts": [], "unrelated": []}, [])


def values(tab: ReportTab, **changes: Any) -> list[Any]:
    """What the form's components give, with changes."""
    given = {name: EvaluateConfig.model_fields[name].default for name in (*SHOWN, *MORE)}
    return list((given | changes).values())


def test_an_evaluation_is_queued_as_asked(tab: ReportTab, studio: Studio, project: Project) -> None:
    duo = add_checkpoint(studio.store, project, "duo", "DUO")
    add_checkpoint(studio.store, project, "esd", "ESD")
    job = start_evaluation(
        studio, tab.form, project.id, [duo.id], *NO_PROTOCOL, *values(tab, n=30, seed=4, oracle=False)
    )
    assert (job.kind, job.project_id) == ("evaluate", project.id)
    asked = {"n": 30, "seed": 4, "oracle": False, "checkpoint_ids": [duo.id], "steps": 20}
    assert job.config == job.config | asked


@pytest.mark.parametrize(
    ("ticked", "changes", "words"),
    [
        ([], {}, "No trained model is ticked"),
        (["duo"], {"n": 0}, r"N\b.*0"),
        (["duo"], {"measures": ["fid"]}, "fid cannot be measured here.*backbones fetch inception"),
    ],
)
def test_what_cannot_be_evaluated_is_said(
    tab: ReportTab, studio: Studio, project: Project, monkeypatch: pytest.MonkeyPatch, ticked: list[str],
    changes: dict[str, Any], words: str,
) -> None:  # fmt: skip
    monkeypatch.setenv("TORCH_HOME", str(studio.settings.data))
    duo = add_checkpoint(studio.store, project, "duo", "DUO")
    with pytest.raises(FormError, match=words):
        start_evaluation(
            studio, tab.form, project.id, [duo.id] if ticked else [], *NO_PROTOCOL, *values(tab, **changes)
        )
    assert [job for job in studio.store.list_jobs() if job.kind == "evaluate"] == []


def test_a_project_of_ones_own_needs_prompts(tab: ReportTab, studio: Studio) -> None:
    own = studio.store.create_project(Project("", "Own", "gun", "/models/own", "nudenet"))
    with pytest.raises(FormError, match="no prompts"):
        start_evaluation(studio, tab.form, own.id, [], *NO_PROTOCOL, *values(tab))


def test_a_protocol_is_asked_for_with_its_file_and_what_it_lacks_is_said(
    tab: ReportTab, studio: Studio, project: Project, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("TORCH_HOME", str(tmp_path))
    duo = add_checkpoint(studio.store, project, "duo", "DUO")
    path = tmp_path / "i2p.csv"
    path.write_text("prompt,categories,sd_seed\na knight,violence,7\n")
    kept = keep_file(studio.settings, path)
    assert kept.read_bytes() == path.read_bytes()
    assert keep_file(studio.settings, path) == kept
    files = {"prompts": [str(kept)], "unrelated": []}
    assert "i2p.csv" in about_html(studio, project.id, "i2p", files, [duo.id], [])
    job = start_evaluation(studio, tab.form, project.id, [duo.id], "i2p", files, [], *values(tab, repeats=3))
    asked = {"protocol": "i2p", "prompts": [str(kept)], "repeats": 3, "checkpoint_ids": [duo.id]}
    assert job.config == job.config | asked
    lacking = ("duo", {"prompts": [], "unrelated": []}, [])
    said = about_html(studio, project.id, *lacking[:2], [duo.id], [])
    assert "Ring-A-Bell was not run on DUO" in said
    assert "AlexNet" in said
    with pytest.raises(FormError, match="Concept Inversion was not run on DUO"):
        start_evaluation(studio, tab.form, project.id, [duo.id], *lacking, *values(tab))
    anyway = start_evaluation(studio, tab.form, project.id, [duo.id], *lacking, *values(tab, incomplete=True))
    assert anyway.config["incomplete"] is True
    path.write_text("")
    with pytest.raises(PromptFileError, match="is empty"):
        keep_file(studio.settings, path)


def test_finished_attacks_are_offered_but_not_in_a_public_demo(
    tab: ReportTab, studio: Studio, project: Project
) -> None:
    config = {"attack": "ring_a_bell", "victims": ["original"]}
    job = studio.store.create_job(Job("", project.id, "attack", config))
    assert refreshed(tab, studio.view(project.id))["attacks"]["visible"] is False
    studio.store.update_job(job.id, state="done")
    offered = refreshed(tab, studio.view(project.id))["attacks"]
    assert [text.split(" · ")[0] for text, _ in offered["choices"]] == ["Ring-A-Bell on the original"]
    public = replace(tab, form=replace(tab.form, public=True))
    assert refreshed(public, studio.view(project.id))["attacks"]["visible"] is False
    chosen = start_evaluation(studio, public.form, project.id, [], "", {}, [job.id], *values(tab))
    assert chosen.config["attacks"] == []


# -- two runs --------------------------------------------------------------------------------------------------------


def another_run(evaluation: Evaluation) -> Evaluation:
    """The same evaluation with another seed and adapter, in which DUO draws the sword as often as the original."""
    report = json.loads(json.dumps(evaluation.report))
    report["seed"] = 3
    report["models"]["duo"]["sha256"] = "cd" * 32
    report["models"]["duo"]["concept_rate"]["named"] = report["models"]["original"]["concept_rate"]["named"]
    return replace(evaluation, id="second", report=report)


def test_two_runs_name_what_was_asked_differently(evaluation: Evaluation) -> None:
    text = two_runs(evaluation, another_run(evaluation))
    assert "<li><b>Seed</b> 0 → 3</li>" in text
    assert "<li><b>Adapter of: DUO</b> no adapter → cdcdcdcd</li>" in text
    assert "Pictures a cell" not in text
    assert "same seed, n, prompts, sampling" in two_runs(evaluation, evaluation)


def test_two_runs_give_each_rate_twice_and_say_whether_the_intervals_overlap(evaluation: Evaluation) -> None:
    text = two_runs(evaluation, another_run(evaluation))
    rows = [row for row in text.split("<tr>") if "Sword seen: named" in row]
    assert ["Original" in row for row in rows] == [True, False]
    assert "+0.0 points<small>intervals overlap" in rows[0]
    assert "+97.0 points<small>intervals do not overlap" in rows[1]
    back = two_runs(another_run(evaluation), evaluation)
    assert "\N{MINUS SIGN}97.0 points" in back


def test_the_second_run_is_shown_where_there_is_one(store: Store, evaluation: Evaluation) -> None:
    other = store.add_evaluation(replace(another_run(evaluation), id=""))
    assert "Two runs side by side" in _beside(store, evaluation.id, other.id)
    assert _beside(store, evaluation.id, "") == ""
    assert "same run" in _beside(store, evaluation.id, evaluation.id)


def test_the_table_has_a_row_a_measure_and_model(store: Store, evaluation: Evaluation) -> None:
    web = TestClient(Starlette(routes=report_routes(store)))
    answer = web.get(f"/studio/tables/{evaluation.id}.csv")
    rows = list(csv.DictReader(StringIO(answer.text)))
    named = next(row for row in rows if (row["cell"], row["model"]) == ("named", "duo"))
    assert (float(named["value"]), named["n"], named["measure"]) == (0.015, "200", "concept_rate")
    assert {row["measure"] for row in rows} == {"concept_rate", "retention", "distance", "training_time"}
    assert web.get("/studio/tables/unknown.csv").status_code == 404


def test_found_pictures_are_veiled_in_a_blurred_project(evaluation: Evaluation) -> None:
    assert "data-hold" not in findings(evaluation)
    veiled = findings(evaluation, blur=True)
    assert veiled.count("data-hold") == 1  # the original's, not DUO's
    assert "?view&amp;blur" in veiled or "?view&blur" in veiled


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
