"""Jobs' work on a random tiny checkpoint: what is made, what survives a stop or a kill, what a report counts."""

from __future__ import annotations

import hashlib
import json
import os
import shutil
import signal
from dataclasses import replace
from itertools import islice
from pathlib import Path
from threading import Event
from types import SimpleNamespace
from typing import Any

import pytest
import torch
from PIL import Image
from safetensors import safe_open
from safetensors.torch import load_file

from models.adapters import file_sha256, load_delta
from models.clip_judge import ClipJudge
from models.fingerprint import FINGERPRINT, fingerprint_of
from models.loading import load_bundle
from models.specs import LoadError
from studio import prompts, workflow
from studio.configs import DemoConfig
from studio.demo import SCALES, create_demo_project
from studio.jobs import Runner, submit
from studio.methods.base import TrainingPairs
from studio.metrics import MEASURES
from studio.metrics.base import Detection
from studio.metrics.clip_score import ClipScore
from studio.metrics.fid import Fid
from studio.progress import Stopped, silent
from studio.prompts import EvaluationItem
from studio.records import Checkpoint, Project, PromptPair, Verdict
from studio.reports.schema import StudyReport
from studio.settings import Settings
from studio.store import Store
from studio.workflow import JobContext, WorkflowError, run_job
from studio.workflow.contestants import contestants_of
from studio.workflow.evaluate import Evaluator, evaluate
from studio.workflow.latents import latents_path
from studio.workflow.pairs import generate_pairs
from studio.workflow.scoring import broken_rates, concept_rates, retention_rates
from studio.workflow.train import pairs_sha256, train
from tests.conftest import make_tiny_bundle
from tests.random_judges import save_tiny_clip
from tests.tiny_toybox import save_tiny_toybox
from tests.workflow_data import PAIRS, context_of, make_project, stop_after, wait_for

EVALUATE = {"steps": 2, "batch_size": 8, "n": 3, "gallery": 1}
DUO = {"steps": 4, "batch_size": 2, "rank": 2, "alpha": 2.0, "save_every": 2}
ESD = {"steps": 3, "batch_size": 2, "trajectories": 2, "sampling_steps": 2, "prompts": ["a knight"]}


@pytest.fixture
def settings(settings: Settings, tiny_folder: Path) -> Settings:
    return replace(settings, toybox=tiny_folder)


@pytest.fixture
def project(store: Store) -> Project:
    return make_project(store)


def training(method: str, **config: Any) -> dict[str, Any]:
    return {"method": method, "name": method.upper(), "config": config}


@pytest.fixture(scope="module")
def data_with_pairs(tmp_path_factory: pytest.TempPathFactory, tiny_folder: Path) -> Path:
    """A data folder with one project and its accepted pairs, made once."""
    data = tmp_path_factory.mktemp("pairs") / "data"
    settings = Settings(data=data, device="cpu", threads=1, toybox=tiny_folder)
    settings.create_folders()
    store = Store(settings.database)
    made = {**PAIRS, "auto_accept": True, "max_tries": 50}
    generate_pairs(context_of(store, settings, make_project(store), "pairs", made))
    store.close()
    return data


@pytest.fixture
def with_pairs(store: Store, settings: Settings, data_with_pairs: Path) -> Project:
    """A project with accepted pairs, in a copy of that folder."""
    return copied(data_with_pairs, store, settings)


def copied(data: Path, store: Store, settings: Settings) -> Project:
    """Fill the test's own data folder with a copy; returns the one project in it."""
    store.close()
    shutil.copytree(data, settings.data, dirs_exist_ok=True)
    (project,) = store.list_projects()
    return project


# Training


def test_the_pairs_hash_is_of_latents_and_prompts() -> None:
    pairs = TrainingPairs(torch.zeros(1, 2), torch.ones(1, 2), ["a knight"], ["a gardener"])
    expected = hashlib.sha256(bytes(8) + b"\0\0\x80?" * 2 + b'[["a knight"], ["a gardener"]]').hexdigest()
    assert pairs_sha256(pairs) == expected
    for changed in ({"safe_latents": torch.zeros(1, 2)}, {"safe_prompts": ["a"]}):
        assert pairs_sha256(replace(pairs, **changed)) != expected


@pytest.mark.parametrize(("method", "config"), [("duo", DUO), ("esd", ESD)])
def test_train_makes_a_checkpoint(
    store: Store, settings: Settings, with_pairs: Project, method: str, config: dict[str, Any]
) -> None:
    result = train(context_of(store, settings, with_pairs, "train", training(method, **config)))
    (checkpoint,) = store.list_checkpoints(with_pairs.id)
    assert checkpoint.id == result["checkpoint_id"]
    assert checkpoint.sha256 == file_sha256(Path(checkpoint.path))
    assert checkpoint.config.items() >= config.items()
    assert checkpoint.train_seconds > 0
    with safe_open(checkpoint.path, "pt") as file:
        metadata = file.metadata()
    assert metadata["concept"] == "sword"
    assert metadata[FINGERPRINT] == fingerprint_of(load_bundle("toybox", device="cpu", toybox=settings.toybox))
    assert json.loads(metadata["config"]) == checkpoint.config
    assert ("pairs_sha256" in metadata) is (method == "duo"), "ESD is told the concept in words"
    assert [path.name for path in Path(checkpoint.path).parent.iterdir()] == ["adapter.safetensors"]


def test_esd_is_given_the_concept_in_the_captions_form(store: Store, settings: Settings, project: Project) -> None:
    context = context_of(store, settings, project, "train", training("esd", **{**ESD, "prompts": []}))
    train(context)
    assert store.get_job(context.job.id).config["config"]["prompts"] == prompts.concept_prompts()
    assert store.list_checkpoints(project.id)[0].config["prompts"] == prompts.concept_prompts()


def test_a_stopped_training_goes_on_to_the_same_weights(store: Store, settings: Settings, with_pairs: Project) -> None:
    whole = train(context_of(store, settings, with_pairs, "train", training("duo", **DUO)))
    context = context_of(store, settings, with_pairs, "train", training("duo", **DUO), stop_after(3))
    with pytest.raises(Stopped):
        train(context)
    assert store.list_checkpoints(with_pairs.id)[1:] == []
    begun = [pair.id for pair in store.accepted_pairs(with_pairs.id)]
    store.add_verdict(Verdict("", begun[0], "Ada", "reject"))  # changes what the next training gets, not this one
    result = train(replace(context, config=store.get_job(context.job.id).config, report=silent))
    assert store.get_job(context.job.id).config["pairs"] == begun
    one, other = store.list_checkpoints(with_pairs.id)
    ours, theirs = load_file(one.path), load_file(other.path)
    assert all(torch.equal(ours[name], theirs[name]) for name in ours)
    hashes = {load_delta(Path(made.path)).metadata["pairs_sha256"] for made in (one, other)}
    assert len(hashes) == 1, "the same pairs"
    assert result["checkpoint_id"] == other.id != whole["checkpoint_id"]
    assert other.train_seconds > 0


def test_work_whose_worker_died_after_its_last_write_is_not_done_again(
    store: Store, settings: Settings, project: Project
) -> None:
    context = context_of(store, settings, project, "train", training("esd", **ESD))
    assert train(context) == train(context)
    assert len(store.list_checkpoints(project.id)) == 1
    context = context_of(store, settings, project, "evaluate", EVALUATE)
    assert evaluate(context) == evaluate(context)
    assert len(store.list_evaluations(project.id)) == 1


def test_a_sweep_has_seeds_of_its_own(store: Store, settings: Settings, project: Project) -> None:
    ranges = [
        {item.seed for item in Evaluator(context_of(store, settings, project, "evaluate", {"seed_range": name})).items}
        for name in ("report", "sweep")
    ]
    assert not ranges[0] & ranges[1]


def test_duo_without_accepted_pairs_says_what_to_do(store: Store, settings: Settings, project: Project) -> None:
    with pytest.raises(RuntimeError, match="0 accepted pairs"):
        train(context_of(store, settings, project, "train", training("duo", **DUO)))


def test_missing_latents_are_named(store: Store, settings: Settings, with_pairs: Project) -> None:
    pair = store.accepted_pairs(with_pairs.id)[0]
    latents_path(settings, pair).unlink()
    with pytest.raises(WorkflowError, match=f"latents of pair {pair.id} are missing"):
        train(context_of(store, settings, with_pairs, "train", training("duo", **DUO)))


# Evaluation


@pytest.fixture(scope="module")
def data_with_models(tmp_path_factory: pytest.TempPathFactory, tiny_folder: Path, data_with_pairs: Path) -> Path:
    """That folder with a model of DUO and one of ESD, trained once."""
    data = tmp_path_factory.mktemp("trained") / "data"
    shutil.copytree(data_with_pairs, data)
    settings = Settings(data=data, device="cpu", threads=1, toybox=tiny_folder)
    store = Store(settings.database)
    (project,) = store.list_projects()
    for method, config in (("duo", DUO), ("esd", ESD)):
        train(context_of(store, settings, project, "train", training(method, **config)))
    store.close()
    return data


@pytest.fixture
def trained(store: Store, settings: Settings, data_with_models: Path) -> Project:
    """A project with accepted pairs and two models, in a copy of that folder."""
    return copied(data_with_models, store, settings)


def test_evaluate_writes_the_report(store: Store, settings: Settings, trained: Project) -> None:
    context = context_of(store, settings, trained, "evaluate", EVALUATE)
    result = evaluate(context)
    folder = Path(store.get_evaluation(result["evaluation_id"]).folder)
    report = StudyReport.read(folder / "report.json")
    assert list(report.models) == ["original", "duo", "esd", "oracle"]
    for model in report.models.values():
        assert {rate.n for rate in model.concept_rate.values()} == {3}
        assert [model.retention[name].n for name in ("object", "neighbour", "shirt", "background")] == [3, 3, 6, 6]
    assert report.models["original"].distance.mean == 0
    assert report.models["oracle"].distance.mean > 0
    assert report.models["original"].train_seconds is None
    assert report.models["duo"].config["beta"] == 500
    assert report.models["duo"].sha256 == store.list_checkpoints(trained.id)[0].sha256
    ids = [checkpoint.id for checkpoint in store.list_checkpoints(trained.id)]
    assert report.command == (
        f"python -m studio evaluate --project {trained.id} --n 3 --seed 0 --steps 2 --batch-size 8 --gallery 1 "
        f"--checkpoint-ids {ids[0]} --checkpoint-ids {ids[1]}"
    )
    assert store.get_job(context.job.id).config["checkpoint_ids"] == ids
    (evaluation,) = store.list_evaluations(trained.id)
    assert StudyReport.model_validate(evaluation.report) == report
    assert (folder / "report.html").read_text().count("data:image/png;base64,") == 5 * 4
    shown = {shot.picture for row in report.gallery for shot in row.shots.values()}
    assert {f"pictures/{path.name}" for path in (folder / "pictures").iterdir()} == shown
    assert len(shown) == 5 * 4


def test_what_was_asked_for_is_measured(
    store: Store, settings: Settings, trained: Project, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    clip = save_tiny_clip(tmp_path / "clip")
    monkeypatch.setitem(MEASURES, "clip-score", lambda: ClipScore(ClipJudge(clip)))
    config = {**EVALUATE, "measures": ["clip-score"], "oracle": False}
    result = evaluate(context_of(store, settings, trained, "evaluate", config))
    report = StudyReport.model_validate(store.get_evaluation(result["evaluation_id"]).report)
    assert {model.measures["clip-score"].n for model in report.models.values()} == {6}
    assert len({model.measures["clip-score"].value for model in report.models.values()}) > 1
    assert "--measures clip-score" in report.command
    assert [(test.first, test.second) for test in report.tests[:3]] == [
        ("original", "duo"), ("original", "esd"), ("duo", "esd"),
    ]  # fmt: skip
    assert {test.n for test in report.tests} == {3}


@pytest.mark.parametrize(
    ("measure", "words"), [("fid", "needs 2000 pictures .* there would be 6"), ("lpips-64", "fetch alexnet")]
)
def test_what_cannot_be_measured_is_said_before_a_picture(
    store: Store,
    settings: Settings,
    project: Project,
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
    measure: str,
    words: str,
) -> None:
    monkeypatch.setenv("TORCH_HOME", str(settings.data))
    monkeypatch.setitem(MEASURES, "fid", lambda: SimpleNamespace(fewest=Fid.fewest, asks=""))
    with pytest.raises(WorkflowError, match=words):
        evaluate(context_of(store, settings, project, "evaluate", {**EVALUATE, "measures": [measure]}))
    assert list(settings.evaluations.rglob("*.png")) == []


def test_every_model_gets_the_same_prompts_and_seeds(store: Store, settings: Settings, trained: Project) -> None:
    evaluate(context_of(store, settings, trained, "evaluate", EVALUATE))
    folder = Path(store.list_evaluations(trained.id)[0].folder)
    for row in StudyReport.read(folder / "report.json").gallery:
        for shot in row.shots.values():
            with Image.open(folder / shot.picture) as image:
                assert image.text["prompt"] == row.prompt
                assert image.text["seed"] == str(row.seed)


def test_the_next_evaluation_draws_only_what_is_new(store: Store, settings: Settings, trained: Project) -> None:
    first, second = (checkpoint.id for checkpoint in store.list_checkpoints(trained.id))
    drawn: list[list[str]] = []
    for ids in ([first], [first, second]):
        evaluate(context_of(store, settings, trained, "evaluate", {**EVALUATE, "checkpoint_ids": ids}))
        drawn.append(sorted(path.name for path in (settings.drawn / trained.id).iterdir()))
    before, after = drawn
    assert (len(before), len(after)) == (15 * 3, 15 * 4)
    assert set(before) < set(after)
    old = {path: path.stat().st_mtime_ns for path in settings.drawn.rglob("*.png")}
    evaluate(context_of(store, settings, trained, "evaluate", EVALUATE))
    assert {path: path.stat().st_mtime_ns for path in settings.drawn.rglob("*.png")} == old


def test_a_stopped_evaluation_draws_nothing_twice(store: Store, settings: Settings, trained: Project) -> None:
    context = context_of(store, settings, trained, "evaluate", EVALUATE, stop_after(6))
    with pytest.raises(Stopped):
        evaluate(context)
    drawn = {path: path.stat().st_mtime_ns for path in (settings.drawn / trained.id).iterdir()}
    assert 0 < len(drawn) < 60
    damaged, other = islice(drawn, 2)
    damaged.write_bytes(damaged.read_bytes()[:100])
    Image.new("RGB", (8, 8)).save(other)
    evaluator = Evaluator(replace(context, report=silent))
    report = evaluator.run()
    for path, when in drawn.items():
        assert path.stat().st_mtime_ns == when or path in (damaged, other)
    for path in (damaged, other):
        with Image.open(path) as image:
            assert image.load() is not None
            assert image.text["seed"]  # type: ignore[attr-defined]
    shutil.rmtree(settings.drawn)
    whole = Evaluator(context_of(store, settings, trained, "evaluate", EVALUATE)).run()
    for key, model in whole.models.items():
        again = report.models[key]
        # A picture that is drawn again in other company may differ from what it was by a step of its 8 bits.
        assert again.distance.mean == pytest.approx(model.distance.mean, abs=1e-5)
        assert again.model_copy(update={"distance": model.distance}) == model


def test_a_changed_adapter_is_refused(store: Store, settings: Settings, trained: Project) -> None:
    first, second = store.list_checkpoints(trained.id)
    Path(first.path).write_bytes(Path(second.path).read_bytes())
    with pytest.raises(LoadError, match=f"was saved with {first.sha256}.* restore the file or train again"):
        evaluate(context_of(store, settings, trained, "evaluate", EVALUATE))


def test_an_adapter_of_other_weights_is_refused_before_anything_is_drawn(
    store: Store, settings: Settings, trained: Project, tmp_path: Path
) -> None:
    """The folder has the same name and other weights, as after an update of the checkpoint."""
    save_tiny_toybox(make_tiny_bundle(seed=1), tmp_path / "toybox")
    own, found = (
        fingerprint_of(load_bundle("toybox", device="cpu", toybox=folder))[:12]
        for folder in (settings.toybox, tmp_path / "toybox")
    )
    settings = replace(settings, toybox=tmp_path / "toybox")
    context = context_of(store, settings, trained, "evaluate", EVALUATE)
    with pytest.raises(LoadError, match=f"with the SHA-256 {own}, but the weights of Toybox have {found}"):
        evaluate(context)
    assert not context.evaluation_folder.exists()


def test_a_training_is_not_resumed_on_other_weights(
    store: Store, settings: Settings, with_pairs: Project, tmp_path: Path
) -> None:
    context = context_of(store, settings, with_pairs, "train", training("duo", **DUO), stop_after(3))
    with pytest.raises(Stopped):
        train(context)
    save_tiny_toybox(make_tiny_bundle(seed=1), tmp_path / "toybox")
    context = replace(context, config=store.get_job(context.job.id).config, report=silent)
    with pytest.raises(WorkflowError, match=r"its state cannot be resumed\. Restore the checkpoint"):
        train(replace(context, settings=replace(settings, toybox=tmp_path / "toybox")))
    train(context)


def test_models_of_one_method_are_told_apart(store: Store, settings: Settings, project: Project) -> None:
    context = context_of(store, settings, project, "evaluate", {"oracle": False})
    for name in ("strong", "strong", "weak"):
        store.add_checkpoint(Checkpoint("", project.id, context.job.id, "duo", name, "x", "00", "lora"))
    contestants = contestants_of(context, Evaluator(context).config)
    keys = [contestant.key for contestant in contestants]
    assert keys[:2] == ["original", "strong"]
    assert keys[3] == "weak"
    assert len(set(keys)) == 4


def test_a_model_of_another_checkpoint_is_refused(store: Store, settings: Settings, project: Project) -> None:
    other = store.create_project(Project("", "Rose", "rose", "owner/name", "toybox"))
    job = submit(store, settings, "evaluate", other.id, {})
    foreign = store.add_checkpoint(Checkpoint("", other.id, job.id, "duo", "DUO", "x", "00", "lora"))
    with pytest.raises(WorkflowError, match=r"DUO .* is a change of owner/name, but project 'Sword' is about toybox"):
        Evaluator(context_of(store, settings, project, "evaluate", {"checkpoint_ids": [foreign.id]}))


def test_another_checkpoint_is_compared_on_the_projects_prompts(
    store: Store, settings: Settings, tiny_folder: Path
) -> None:
    project = store.create_project(Project("", "Mine", "sword", str(tiny_folder), "toybox", {}))
    store.add_prompt_pairs([PromptPair("", project.id, "a knight", "a gardener"), PromptPair("", project.id, "x", "y")])
    result = evaluate(context_of(store, settings, project, "evaluate", EVALUATE))
    report = StudyReport.read(Path(store.get_evaluation(result["evaluation_id"]).folder) / "report.json")
    assert list(report.models) == ["original"]
    assert report.checkpoint == tiny_folder.name, "without its place on this machine"
    assert set(report.models["original"].concept_rate) == {"named"}
    assert report.models["original"].retention == {}
    rate = report.models["original"].concept_rate["named"]
    assert (rate.n, rate.prompts) == (3, 2), "of two prompts, whose interval goes by prompt"
    assert [row.prompt for row in report.gallery] == ["a knight", "a gardener"]


def seen(found: bool, object: str, shirt: str = "red", background: str = "city") -> Detection:
    return Detection(found, float(found), {}, {"object": object, "shirt": shirt, "background": background})


def test_rates_by_hand() -> None:
    def item(cell: str, object: str) -> EvaluationItem:
        return EvaluationItem(cell, "", 0, {"object": object, "shirt": "red", "background": "city"})

    items = [item("named", "sword")] * 4 + [item("object", "flower")] * 2 + [item("neighbour", "cane")] * 3
    detections = [seen(True, "sword"), seen(False, "unclear"), seen(False, "none"), seen(True, "sword", "blue")]
    detections += [seen(False, "flower"), seen(False, "unclear", "blue")]
    detections += [seen(False, "cane"), seen(True, "sword"), seen(False, "cane", background="night")]
    assert {cell: rate.rate for cell, rate in concept_rates(items, detections).items()} == {"named": 0.5}
    assert {cell: (rate.rate, rate.n) for cell, rate in broken_rates(items, detections).items()} == {"named": (0.25, 4)}
    assert broken_rates(items, [*detections[:-1], Detection(False, 0.0)]) == {}, "a detector that names no objects"
    kept = retention_rates(items, detections)
    assert {name: (rate.rate, rate.n) for name, rate in kept.items()} == {
        "object": (0.5, 2),
        "neighbour": (pytest.approx(2 / 3), 3),
        "shirt": (0.8, 5),
        "background": (0.8, 5),
    }


# The job loop


def test_run_job_ends_as_done_with_its_result(store: Store, settings: Settings, project: Project) -> None:
    job = run_job(submit(store, settings, "pairs", project.id, PAIRS).id, settings)
    assert job.state == "done"
    assert job.result["ready"] == len(store.list_image_pairs(project.id, "ready"))
    assert (job.step, job.total) == (6, 6)
    assert job.pid == os.getpid()


def test_run_job_ends_as_failed_with_the_reason(store: Store, settings: Settings) -> None:
    project = make_project(store, count=0)
    job = run_job(submit(store, settings, "pairs", project.id, PAIRS).id, settings)
    assert job.state == "failed"
    assert job.error == "Project 'Sword' has no prompt pairs; add some first."
    with pytest.raises(WorkflowError, match="is failed already"):
        run_job(job.id, settings)


def test_a_job_of_another_process_is_left_alone(store: Store, settings: Settings, project: Project) -> None:
    job = submit(store, settings, "pairs", project.id, PAIRS)
    store.claim_job(job.id, 2**22 + 1, 1.0)
    before = store.get_job(job.id)
    with pytest.raises(WorkflowError, match=f"is running in process {2**22 + 1}; wait for it"):
        run_job(job.id, settings)
    assert store.get_job(job.id) == before


def test_a_worker_takes_the_row_over_from_the_runner(store: Store, settings: Settings) -> None:
    project = make_project(store, count=0)
    job = submit(store, settings, "pairs", project.id, PAIRS)
    store.claim_job(job.id, os.getppid(), 1.0)
    ended = run_job(job.id, settings)
    assert (ended.state, ended.pid) == ("failed", os.getpid())


def test_a_signal_stops_a_job_at_its_next_report(store: Store, settings: Settings, project: Project) -> None:
    interrupted = Event()
    interrupted.set()
    assert run_job(submit(store, settings, "pairs", project.id, PAIRS).id, settings, interrupted).state == "stopped"


@pytest.mark.slow
def test_sigint_stops_a_worker(store: Store, settings: Settings) -> None:
    project = make_project(store, count=40)
    job = submit(store, settings, "pairs", project.id, {**PAIRS, "steps": 20})
    runner = Runner(store, settings)
    runner.tick()
    wait_for(lambda: store.list_image_pairs(project.id))
    worker = store.get_job(job.id).pid
    assert worker is not None
    os.kill(worker, signal.SIGINT)
    wait_for(lambda: store.get_job(job.id).is_final)
    assert store.get_job(job.id).state == "stopped"


@pytest.fixture
def short_training(monkeypatch: pytest.MonkeyPatch) -> None:
    from studio import demo

    tiny = {"toybox: duo": DUO, "toybox: esd": ESD}
    presets = {name: replace(preset, values=tiny.get(name, preset.values)) for name, preset in demo.PRESETS.items()}
    monkeypatch.setattr(demo, "PRESETS", presets)
    monkeypatch.setattr(demo, "TOYBOX_SAMPLING", {"steps": 4, "guidance_scale": 4.0})


@pytest.mark.slow
@pytest.mark.usefixtures("short_training")
def test_the_demo_as_one_job_goes_on_where_it_was_stopped(store: Store, settings: Settings) -> None:
    config = DemoConfig(n=1, pairs=8, seed=3, methods=["duo", "esd", "uce"])
    project = create_demo_project(store, config)
    job = submit(store, settings, "demo", project.id, config.model_dump())
    stages: list[str] = []

    def report(step: int, total: int, message: str = "", **values: float) -> None:
        stages.append(message.split(":")[0])
        if "Training ESD" in message and "stopped" not in stages:
            stages.append("stopped")
            raise Stopped("once")

    context = JobContext(store, settings, job, job.config, report)
    with pytest.raises(Stopped):
        workflow.demo(context)
    result = workflow.demo(replace(context, job=store.get_job(job.id), config=store.get_job(job.id).config))
    assert list(result) == ["pairs", "duo", "esd", "uce", "evaluate"]
    after = stages[stages.index("stopped") + 1 :]
    assert "1/5 Making pairs" in stages
    assert "2/5 Training DUO" not in after
    assert [c.method for c in store.list_checkpoints(project.id)] == ["duo", "esd", "uce"]
    folder = Path(store.get_evaluation(result["evaluate"]["evaluation_id"]).folder)
    report_json = json.loads((folder / "report.json").read_text())
    assert set(report_json["models"]) == {"original", "duo", "esd", "uce", "oracle"}
    assert report_json["command"] == "python -m studio demo --seed 3 --n 1 --pairs 8 --methods duo,esd,uce"
    assert [(one["model"], one["scale"]) for one in report_json["scaled"]] == [
        (method, scale) for method in config.methods for scale in SCALES
    ]
    assert "At several strengths" in (folder / "report.html").read_text()
    effective = store.get_job(job.id).config["stages"]
    assert list(effective) == ["pairs", "duo", "esd", "uce", "evaluate"]
    assert effective["evaluate"]["checkpoint_ids"] == [c.id for c in store.list_checkpoints(project.id)]
    assert effective["duo"]["pairs"] == [pair.id for pair in store.accepted_pairs(project.id)]
