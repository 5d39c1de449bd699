"""The attack panel without a browser: what it costs, what it starts, what it shows, keeps and hands out."""

from __future__ import annotations

import csv
import hashlib
from dataclasses import replace
from io import StringIO
from pathlib import Path
from typing import Any

import gradio as gr
import pytest
from starlette.applications import Starlette
from starlette.testclient import TestClient

from studio.attack_configs import ATTACK_CONFIGS, AttackJobConfig, Cost
from studio.attack_costs import EMBEDDED, estimate, speed_of
from studio.records import REFERENCE, AttackRun, Checkpoint, Job, Project
from studio.reports.attacks import summarise
from studio.store import Store
from studio.ui import attack_view as views
from studio.ui.attack import AttackPanel, attack_panel, start_attack
from studio.ui.attack_form import FILE, OWN, SHELF, read_file
from studio.ui.attack_found import attack_routes, hit_options, keep, replayed
from studio.ui.compare_form import InputError
from studio.ui.context import Studio
from studio.ui.forms import FormError
from studio.ui.shelves import save_shelf
from tests.ui_data import add_checkpoint

NAMES = ("attack", "budget", "victims", "source", "shelf", "file", "values")


@pytest.fixture
def panel(studio: Studio) -> AttackPanel:
    with gr.Blocks():
        return attack_panel(studio, gr.Dropdown())


@pytest.fixture
def duo(store: Store, project: Project) -> Checkpoint:
    return add_checkpoint(store, project, "duo", "DUO")


def asked(panel: AttackPanel, **changes: Any) -> list[Any]:
    """The form's values, with these in the place of those that are there at first."""
    values = [getattr(component, "value", None) for component in panel.form.inputs]
    for name, value in changes.items():
        values[NAMES.index(name)] = value
    return values


def run_of(job: Job, role: Any, number: int, **changes: Any) -> AttackRun:
    """One row of an attack, invented."""
    made = AttackRun(
        id="", project_id=job.project_id, job_id=job.id, attack="p4d", role=role, config={}, victim="a",
        victim_name="DUO", victim_sha256="0" * 64, detector="toybox", detector_version="1", detector_settings={},
        sampling={"steps": 20, "guidance_scale": 4.0}, prompt=f"a knight {number}", seed=number,
        found_prompt=f"found {number}", embedding="", queries=10, text_passes=0, forward=0, backward=0, seconds=2.0,
        pre_success=False, success=False, score=0.1, fresh_successes=0, fresh_count=4, fresh_first=False,
        image=f"{number:064x}",
    )  # fmt: skip
    return replace(made, **changes)


@pytest.fixture
def job(store: Store, project: Project) -> Job:
    """A finished attack on two prompts, one of which works; with its control and the original's pictures."""
    job = store.create_job(Job("", project.id, "attack", {"attack": "p4d", "budget": "quick", "n": 2, "fresh": 4}))
    works = {"success": True, "score": 0.9, "fresh_successes": 3, "fresh_first": True}
    rows = [run_of(job, "plain", n, attack="none") for n in (1, 2)]
    rows += [run_of(job, "attack", 1), run_of(job, "attack", 2, **works)]
    rows += [run_of(job, "control", n, attack="random_tokens") for n in (1, 2)]
    rows += [run_of(job, "plain", n, attack=REFERENCE, victim="original", success=True, score=0.97) for n in (1, 2)]
    store.add_attack_runs(rows)
    return store.update_job(job.id, state="done")


# What it costs


def test_the_time_follows_from_the_passes_and_from_earlier_attacks(job: Job, store: Store) -> None:
    config = AttackJobConfig(attack="p4d", n=10, fresh=1, steps=20)
    known = estimate(config, 2, EMBEDDED)
    # 2 x 10 prompts: 150 steps of 4 latents, twice forward and once backward; 10 queries of attack and control each;
    # and the pictures: two of attack, control and plain prompt each, and the original's.
    pictures = 200 + 200 + 80 + 40 + 10
    passes = 20 * 150 * 4 * (2 + 2) + 40 * pictures
    assert known.seconds == pytest.approx(passes * EMBEDDED.forward + 20 * 151 * EMBEDDED.text)
    assert estimate(config, 2, None).seconds is None
    runs = store.list_attack_runs(job.project_id)
    measured = speed_of(runs, embedded=False)
    assert measured is not None
    assert measured.seconds(Cost(queries=10), 20) == pytest.approx(2.0)  # as the rows took
    assert speed_of([], embedded=False) is None
    assert speed_of([], embedded=True) == EMBEDDED
    bell = [run_of(job, "attack", 1, queries=0, text_passes=1000, seconds=3.0)]
    speed = speed_of(bell, embedded=True)
    assert speed is not None
    assert (speed.text, speed.forward) == (pytest.approx(0.003), EMBEDDED.forward)


def test_the_form_says_the_cost_of_every_attack_and_budget(panel: AttackPanel, duo: Checkpoint, studio: Studio) -> None:
    for name in ATTACK_CONFIGS:
        for budget in ("quick", "published", "thorough"):
            values = asked(panel, attack=name, budget=budget, victims=[duo.id])
            assert "At most about" in panel.form.cost_of(studio, duo.project_id, values)


# What it starts


def test_an_attack_is_queued_with_what_the_form_says(panel: AttackPanel, duo: Checkpoint, studio: Studio) -> None:
    shelf = save_shelf(studio.store, duo.project_id, "Hard ones", ["a knight", "a pirate"], 7, 1)
    values = asked(
        panel, victims=[duo.id, "original"], source=SHELF, shelf=shelf.id, values="generations=7\ntokens = 3"
    )
    config = start_attack(studio, panel.form, duo.project_id, values).config
    assert (config["attack"], config["budget"], config["victims"]) == ("ring_a_bell", "quick", [duo.id, "original"])
    assert config["prompts"] == ["a knight", "a pirate"]
    assert (config["values"]["generations"], config["values"]["tokens"]) == (7, 3)
    assert config["values"]["population"] == 100  # the budget's


@pytest.mark.parametrize(
    ("changes", "words"),
    [
        ({"victims": []}, "No model is chosen"),
        ({"victims": ["gone"]}, "no model 'gone' in this project any more"),
        ({"source": FILE}, "No file of prompts is chosen yet"),
        ({"source": SHELF}, "Choose a shelf"),
        ({"values": "generations"}, "is not name=value"),
        ({"values": "generations=-1"}, "generations = '-1': it must be at least 0"),
        ({"values": "steps=1"}, "steps = '1': there is no such value; use one of"),
    ],
)
def test_what_is_wrong_is_said_and_nothing_is_queued(
    changes: dict[str, Any], words: str, panel: AttackPanel, duo: Checkpoint, studio: Studio
) -> None:
    values = asked(panel, **{"victims": [duo.id], "source": OWN, **changes})
    with pytest.raises(FormError, match=words):
        start_attack(studio, panel.form, duo.project_id, values)
    assert all(job.kind != "attack" for job in studio.store.list_jobs())


def test_a_file_of_prompts_is_read_and_not_kept(tmp_path: Path) -> None:
    path = tmp_path / "mine.csv"
    path.write_text("case_number,prompt\n1,a knight\n2,a knight\n3,a pirate\n")
    assert read_file(str(path)) == (("mine.csv", ["a knight", "a pirate"]), "")
    assert not path.exists()
    path.write_text("a,b\n1,2\n")
    (name, prompts), problem = read_file(str(path))
    assert (name, prompts) == ("", [])
    assert problem.startswith("mine.csv has no column of prompts")


# What it shows


def test_the_original_s_pictures_are_no_victim_of_their_own(job: Job, store: Store, project: Project) -> None:
    runs = store.list_attack_runs(project.id, job.id)
    (summary,) = summarise(runs)
    assert summary.victim_name == "DUO"
    text = views.gallery(project, runs)
    assert text.index("found 2") < text.index("found 1"), "what works comes first"
    assert text.count("<img") == 4
    assert "3 of 4 on fresh seeds" in text
    blurred = views.gallery(replace(project, blur=True), runs)
    assert blurred.count("data-hold") == 3  # the two of the original, and the one that works


def test_rates_say_n_intervals_and_whether_the_control_is_beaten(job: Job, store: Store) -> None:
    runs = store.list_attack_runs(job.project_id, job.id)
    text = views.rates(summarise(runs))
    assert "50 %<small>9–91, n = 2</small>" in text  # Wilson of 1 of 2
    assert "alone: attack 1, control 0; does not beat its control" in text
    assert "Random tokens" in text


def test_found_prompts_cannot_inject_html(job: Job, store: Store, project: Project) -> None:
    bad = "<script>alert(1)</script>"
    runs = [replace(one, found_prompt=bad, victim_name=bad) for one in store.list_attack_runs(project.id, job.id)]
    shown = views.gallery(project, runs) + views.rates(summarise(runs)) + views.live({}, runs, "sword")
    assert "<script" not in shown + views.downloads(job, runs)


def test_results_are_sent_again_only_where_there_are_more(
    panel: AttackPanel, job: Job, studio: Studio, store: Store
) -> None:
    view = studio.view(job.project_id)
    values = [None] * len(panel.form.inputs)
    names = ["victims", "shelf", "cost", "chosen", "seen", "head", "actions", "stop", "resume", "live", "results"]
    first = panel.refresh(view, None, None, None, None, *values)
    seen = first[names.index("seen")]
    assert "Attack success rates" in first[names.index("results")]
    again = panel.refresh(view, job.id, seen, [], [], *asked(panel))
    assert again[names.index("results")] == gr.skip()
    store.add_attack_runs([run_of(job, "attack", 3)])
    more = panel.refresh(view, job.id, seen, [], [], *asked(panel))
    assert "found 3" in more[names.index("results")]


# What was found


def test_what_works_is_kept_and_drawn_again(job: Job, studio: Studio, duo: Checkpoint, store: Store) -> None:
    store.add_attack_runs([run_of(job, "attack", 3, found_prompt="", embedding="ab" * 32)])
    runs = store.list_attack_runs(job.project_id, job.id)
    ids = [key for _, key in hit_options(runs)]
    assert hit_options(runs)[0][0] == "found 2 · seed 2 · DUO: 3 of 4 fresh"
    assert "Left out, since no text: 1." in keep(studio, job.project_id, ids, "Found")
    (shelf,) = store.list_shelves(job.project_id)
    assert (shelf.prompts, shelf.seed) == ("found 2\nfound 1", 2)
    request = replayed(studio, job.project_id, ids, ["original", duo.id]).request
    assert [model.label for model in request.models] == ["Original", "DUO"]
    assert request.prompts == ["found 2", "found 1", "(empty prompt) ⟨abababab⟩"]
    assert request.seeds == [2]
    (one,) = request.found.values()
    assert (one.prompt, one.embedding) == ("", "ab" * 32)
    for wrong, words in (([], "Tick at least one"), ([ids[2]], "no text but an embedding")):
        with pytest.raises(InputError, match=words):
            keep(studio, job.project_id, wrong, "Other")


def test_downloads_are_of_this_attack_alone(job: Job, studio: Studio, store: Store) -> None:
    data = b"tensors"
    sha256 = hashlib.sha256(data).hexdigest()
    studio.settings.embeddings.mkdir(parents=True)
    (studio.settings.embeddings / f"{sha256}.safetensors").write_bytes(data)
    web = TestClient(Starlette(routes=attack_routes(studio.settings, store)))
    assert web.get(f"/studio/attacks/{job.id}/{sha256}.safetensors").status_code == 404  # of no row
    store.add_attack_runs([run_of(job, "attack", 3, embedding=sha256)])
    assert web.get(f"/studio/attacks/{job.id}/{sha256}.safetensors").content == data
    rows = list(csv.DictReader(StringIO(web.get(f"/studio/attacks/{job.id}.csv").text)))
    assert [row["prompt"] for row in rows] == ["found 1", "found 2", "found 3"]
    assert web.get("/studio/attacks/nothing.csv").status_code == 404


def test_a_public_demo_makes_and_hands_out_nothing(job: Job, studio: Studio, duo: Checkpoint, store: Store) -> None:
    public = replace(studio, settings=replace(studio.settings, public_demo=True))
    with gr.Blocks():
        panel = attack_panel(public, gr.Dropdown())
    with pytest.raises(FormError, match="public demo"):
        start_attack(public, panel.form, duo.project_id, asked(panel, victims=[duo.id]))
    ids = [key for _, key in hit_options(store.list_attack_runs(job.project_id))]
    for work in (
        lambda: keep(public, job.project_id, ids, "x"),
        lambda: replayed(public, job.project_id, ids, [duo.id]),
    ):
        with pytest.raises(InputError, match="public demo"):
            work()
    web = TestClient(Starlette(routes=attack_routes(public.settings, store)))
    assert web.get(f"/studio/attacks/{job.id}.csv").status_code == 404
    shown = panel.refresh(public.view(job.project_id), None, None, None, None, *[None] * len(panel.form.inputs))
    assert "public demo" in shown[2]
    assert "Found prompts (CSV)" not in str(shown)
    assert all(one.kind != "attack" or one.id == job.id for one in store.list_jobs())
