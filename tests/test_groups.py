"""One adapter a group of prompts, summed: what each is trained on, what a stop leaves, what the page shows."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path
from typing import Any

import gradio as gr
import pytest
import torch
from safetensors.torch import load_file, save_file

from models.compose import Part, compose
from models.deltas import load_delta
from models.fingerprint import FINGERPRINT, fingerprint_of
from models.loading import load_bundle
from studio import cli
from studio.groups import too_few_groups
from studio.launchers.far import InFolder, _Keeper, _unpacked
from studio.launchers.parcel import pack
from studio.launchers.results import pack_results, take_results
from studio.progress import Stopped, silent
from studio.records import ImagePair, Job, Project, PromptPair, Verdict
from studio.settings import Settings
from studio.stopping import trained_on
from studio.store import Store
from studio.ui.context import Studio
from studio.ui.train import train_tab
from studio.ui.train_start import start_training
from studio.ui.training_view import charts, head
from studio.ui.trainings import trainings_of
from studio.workflow import JobContext, WorkflowError
from studio.workflow.compose import compose_adapters
from studio.workflow.grouped import train_job
from studio.workflow.samples import sample_prompts
from studio.workflow.stages import TOTAL
from studio.workflow.train import train
from tests.test_ui_train import filled
from tests.workflow_data import context_of

DUO = {"steps": 3, "batch_size": 2, "rank": 2, "alpha": 2.0, "save_every": 1, "sample_every": 0}
GROUPED = {"method": "duo", "name": "Both", "config": {**DUO, "one_adapter_a_group": True}}


@pytest.fixture
def settings(settings: Settings, tiny_folder: Path) -> Settings:
    return replace(settings, toybox=tiny_folder)


@pytest.fixture
def pairs(store: Store, settings: Settings, project: Project) -> dict[str, list[str]]:
    """Two accepted pairs in each of two groups; the pairs' ids by group."""
    return add_groups(store, settings, project, "blades", "sticks")


def add_groups(store: Store, settings: Settings, project: Project, *groups: str) -> dict[str, list[str]]:
    generator = torch.Generator().manual_seed(0)
    metadata = {FINGERPRINT: fingerprint_of(load_bundle("toybox", device="cpu", toybox=settings.toybox))}
    made: dict[str, list[str]] = {}
    for group in groups:
        text = f"with {group}"
        (prompt,) = store.add_prompt_pairs([PromptPair("", project.id, text, f"no {group}", 2, 0, group)])
        for index in range(2):
            pair = store.add_image_pair(ImagePair("", project.id, prompt.id, index, index, "ready"))
            both = {side: torch.randn(8, 8, 8, generator=generator) for side in ("unsafe", "safe")}
            save_file(both, settings.latents / f"{pair.id}.safetensors", metadata)
            store.add_verdict(Verdict("", pair.id, "Ann", "accept"))
            made.setdefault(group, []).append(pair.id)
    return made


def stop_in(stage: str, step: int) -> Any:
    """A report that asks for a stop at a step of a stage."""

    def report(done: int, total: int, message: str = "", **values: float) -> None:
        if values.get(f"{stage}.step") == step:
            raise Stopped("enough")

    return report


def again(context: JobContext) -> JobContext:
    """The job as its next worker meets it."""
    job = context.store.get_job(context.job.id)
    return replace(context, job=job, config=job.config, report=silent)


def test_each_group_gets_an_adapter_and_the_result_is_their_sum(
    store: Store, settings: Settings, project: Project, pairs: dict[str, list[str]]
) -> None:
    steps: list[tuple[int, int]] = []
    context = context_of(
        store, settings, project, "train", GROUPED, lambda step, total, *_, **values: steps.append((step, total))
    )
    result = train_job(context)
    blades, sticks, both = store.list_checkpoints(project.id)
    assert [one.name for one in (blades, sticks, both)] == ["Both: blades", "Both: sticks", "Both"]
    assert result["checkpoint_id"] == both.id
    assert result["group-2"]["checkpoint_id"] == sticks.id
    assert both.train_seconds == blades.train_seconds + sticks.train_seconds > 0
    deltas = [load_delta(Path(one.path)) for one in (blades, sticks)]
    wanted = compose([Part("part", delta) for delta in deltas])
    found = load_delta(Path(both.path))
    assert all(torch.equal(found.tensors[key], value) for key, value in wanted.tensors.items())
    assert (found.metadata["rank"], both.config["one_adapter_a_group"]) == ("4", True)
    config = store.get_job(context.job.id).config
    assert config["groups"] == {"group-1": "blades", "group-2": "sticks"}
    assert [stage["pairs"] for stage in config["stages"].values()] == list(pairs.values())
    done = [step for step, _ in steps]
    assert done == sorted(done)
    assert steps[-1] == (TOTAL, TOTAL)


def test_an_adapter_of_a_group_is_that_of_its_pairs_alone(
    store: Store, settings: Settings, project: Project, pairs: dict[str, list[str]]
) -> None:
    train_job(context_of(store, settings, project, "train", GROUPED))
    for pair_id in pairs["blades"]:
        store.add_verdict(Verdict("", pair_id, "Ann", "reject"))
    train(context_of(store, settings, project, "train", {**GROUPED, "config": DUO}))
    _, sticks, _, alone = store.list_checkpoints(project.id)
    ours, theirs = load_file(sticks.path), load_file(alone.path)
    assert all(torch.equal(ours[name], theirs[name]) for name in theirs)


def test_a_stopped_job_goes_on_in_its_group_and_ends_with_the_same_sum(
    store: Store, settings: Settings, project: Project, pairs: dict[str, list[str]]
) -> None:
    whole = train_job(context_of(store, settings, project, "train", GROUPED))
    context = context_of(store, settings, project, "train", GROUPED, stop_in("group-2", 2))
    with pytest.raises(Stopped):
        train_job(context)
    first = store.get_job(context.job.id).result["group-1"]["checkpoint_id"]
    (prompt, *_) = store.list_prompt_pairs(project.id)
    store.update_prompt_pair(prompt.id, group="other")  # changes what the next training makes, not this one
    result = train_job(again(context))
    assert result["group-1"]["checkpoint_id"] == first
    one, two = (load_file(store.get_checkpoint(made["checkpoint_id"]).path) for made in (whole, result))
    assert all(torch.equal(one[name], two[name]) for name in one)
    assert train_job(again(context)) == result, "a job that is run again must not train twice"


@pytest.mark.parametrize("route", ["begun here", "begun there"])
def test_a_job_that_goes_on_elsewhere_takes_its_finished_groups_along(
    store: Store, settings: Settings, project: Project, pairs: dict[str, list[str]], tmp_path: Path, route: str
) -> None:
    """Begun here they travel with the inputs; begun on a machine elsewhere with the state that it keeps."""
    watched = {**GROUPED, "config": {**DUO, "one_adapter_a_group": True, "sample_every": 2}}
    context = context_of(store, settings, project, "train", watched)
    inputs, place = tmp_path / "inputs", InFolder(tmp_path / "inputs", tmp_path / "out")
    if route == "begun there":
        pack(store, settings, context.job, inputs / "inputs.zip")
    with pytest.raises(Stopped):
        train_job(replace(context, report=stop_in("group-2", 2)))
    stopped = store.get_job(context.job.id)
    if route == "begun there":
        _Keeper(store, settings, stopped, place, tmp_path / "copy", 0, print).keep()
    else:
        pack(store, settings, stopped, inputs / "inputs.zip")
    far = replace(settings, data=tmp_path / "far")
    far, other, unpacked = _unpacked(far, place, tmp_path / "far" / "remote", print)
    result = train_job(JobContext(other, far, unpacked.job, unpacked.job.config, silent))
    assert result["group-1"] == stopped.result["group-1"]
    first, _, both = other.list_checkpoints(project.id)
    assert first.sha256 == store.get_checkpoint(first.id).sha256
    assert Path(first.path).parent == far.checkpoints / f"{stopped.id}-group-1"
    assert other.list_samples(stopped.id, "group-1") != []
    assert both.train_seconds > 0
    pack_results(other, far, other.update_job(stopped.id, result=result), tmp_path / "results")
    taken = take_results(store, settings, stopped, lambda name: tmp_path / "results" / name)
    assert taken == result
    other.close()


def test_too_few_groups_are_said_before_and_in_the_job(
    store: Store,
    settings: Settings,
    project: Project,
    studio: Studio,
    monkeypatch: pytest.MonkeyPatch,
    capsys: pytest.CaptureFixture[str],
) -> None:
    add_groups(store, settings, project, "blades")
    words = "all 2 accepted pairs are of the group 'blades'"
    with pytest.raises(WorkflowError, match=words):
        train_job(context_of(store, settings, project, "train", GROUPED))
    jobs = len(store.list_jobs())
    with gr.Blocks():
        tab = train_tab(studio, gr.Dropdown())
    values = filled(tab, "duo", one_adapter_a_group=True)
    said, key = start_training(studio, studio.view(project.id), tab.form, "duo", "", values)
    assert key is None
    assert "of the group &#x27;blades&#x27;" in said
    for name, value in settings.environment().items():
        monkeypatch.setenv(name, value)
    assert cli.main(["train", "duo", "--project", project.id, "--preset", "paper: violence"]) == 2
    assert words in capsys.readouterr().err
    assert len(store.list_jobs()) == jobs
    assert "accepted pairs are without a group" in too_few_groups({"": 7})
    assert "there are 0 accepted pairs" in too_few_groups({})
    assert too_few_groups({"": 7, "blades": 1}) == ""


def test_only_accepted_pairs_make_a_group(
    store: Store, settings: Settings, project: Project, pairs: dict[str, list[str]]
) -> None:
    assert store.accepted_groups(project.id) == {"blades": 2, "sticks": 2}
    store.add_verdict(Verdict("", pairs["blades"][0], "Ann", "reject"))
    (sticks,) = [one for one in store.list_prompt_pairs(project.id) if one.group == "sticks"]
    store.update_prompt_pair(sticks.id, group="")
    assert store.accepted_groups(project.id) == {"blades": 1, "": 2}


def test_a_group_draws_its_own_prompts(store: Store, settings: Settings, project: Project) -> None:
    store.update_project(project.id, concept="tool")
    for group in ("blades", "sticks"):
        store.add_prompt_pairs([PromptPair("", project.id, f"with {group}", f"no {group}", group=group)])
    context = context_of(store, settings, project, "train", GROUPED)
    stage = context.for_stage("group-2", {"group": "sticks"}, silent)
    assert [prompt.text for prompt in sample_prompts(stage)] == ["with sticks", "no sticks"]


def test_sums_of_models_that_used_a_pair_are_named_with_them(
    store: Store, settings: Settings, project: Project, pairs: dict[str, list[str]]
) -> None:
    train_job(context_of(store, settings, project, "train", GROUPED))
    blades, _, both = store.list_checkpoints(project.id)
    other = store.create_project(replace(project, id="", name="Other"))
    parts = {"parts": [{"checkpoint_id": both.id, "weight": 0.5}], "name": "Half"}
    compose_adapters(context_of(store, settings, other, "compose", parts))
    assert trained_on(store, project.id, pairs["blades"][0]) == [blades.name, both.name, "Other: Half"]


# -- the page ----------------------------------------------------------------------------------------------------


@pytest.fixture
def job(store: Store, project: Project) -> Job:
    return store.create_job(Job("", project.id, "train", GROUPED))


def test_the_page_follows_the_group_that_is_trained_and_then_the_sum(store: Store, job: Job) -> None:
    (whole,) = trainings_of([job])
    assert (whole.title, whole.key) == ("Both", job.id)
    stage = {"method": "duo", "name": "Both: blades", "config": DUO, "pairs": ["a", "b"]}
    config = {**GROUPED, "groups": {"group-1": "blades", "group-2": "sticks"}, "stages": {"group-1": stage}}
    job = store.update_job(job.id, config=config, state="running", step=2500, total=TOTAL, started=1.0)
    (blades,) = trainings_of([job])
    assert (blades.title, blades.key, blades.pairs) == ("Both: blades", f"{job.id}:group-1", 2)
    assert "The bar is that of all groups." in head(blades, "", None)
    job = store.update_job(job.id, state="done", result={"group-1": {"checkpoint_id": "c1"}, "checkpoint_id": "c2"})
    blades, whole = trainings_of([job])
    assert (blades.checkpoint_id, whole.checkpoint_id, whole.parts) == ("c1", "c2", 2)
    assert "the sum of 2 adapters, one a group" in head(whole, "", None)
    assert "choose it in the list" in charts({}, whole)
