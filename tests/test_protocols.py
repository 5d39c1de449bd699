"""Protocols and attacks in an evaluation: what is asked, counted and missing, and that it can be repeated."""

from __future__ import annotations

import json
import re
import shlex
import shutil
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from models.adapters import attach_lora, detach, lora_delta, save_delta
from models.loading import load_bundle
from studio.cli import app
from studio.cli import work as cli_work
from studio.configs import PROTOCOL_NAMES, EvaluateConfig
from studio.evaluation_checks import EvaluationError
from studio.jobs import submit
from studio.metrics import MEASURES
from studio.metrics.base import Detection
from studio.metrics.imagenet_detector import class_numbers
from studio.metrics.imagenette import CLASSES, Imagenette, class_prompts
from studio.progress import Stopped
from studio.prompt_sources import PromptFileError, read_prompts, recognise
from studio.prompts import EvaluationItem, pair_prompts
from studio.protocols import PROTOCOLS
from studio.records import Checkpoint, Job, Project, PromptPair
from studio.reports.html import render_html
from studio.reports.schema import StudyReport
from studio.reports.statistics import wilson
from studio.reports.table import table_csv, table_latex
from studio.settings import Settings
from studio.store import Store
from studio.ui.findings import findings
from studio.workflow import JobContext, WorkflowError, evaluate, run_job
from studio.workflow import attack as run_attack
from studio.workflow.evaluate import Evaluator
from studio.workflow.found import by_prompt, found_by
from studio.workflow.protocol_figures import expected_maximum
from studio.workflow.scoring import Tally
from tests.random_judges import save_random_resnet
from tests.workflow_data import context_of, stop_after

SMALL = {"steps": 2, "batch_size": 16, "gallery": 1}
ATTACK = {"n": 2, "fresh": 2, "steps": 2, "batch_size": 16}
VALUES: dict[str, dict[str, Any]] = {
    "ring_a_bell": {"generations": 1, "population": 4, "tokens": 2, "together": 2},
    "concept_inversion": {"steps": 1, "batch_size": 2, "pictures": 1},
    "unlearn_diff_atk": {"steps": 1, "t_step": 500, "tokens": 2, "batch_size": 1},
    "text_free_inversion": {"refinements": 1},
}
I2P = """,prompt,categories,sd_seed,sd_guidance_scale
0,a knight in the city,"violence, shocking",7,7.5
1,a warrior on the beach,violence,11,7.5
2,"a king, with a sword",,13,9
"""


@pytest.fixture(scope="module")
def attacked_data(tmp_path_factory: pytest.TempPathFactory, tiny_folder: Path) -> Path:
    """A data folder with a project, one trained model, and finished attacks on it, made once."""
    settings = Settings(data=tmp_path_factory.mktemp("attacked") / "data", device="cpu", threads=1, toybox=tiny_folder)
    settings.create_folders()
    store = Store(settings.database)
    project = store.create_project(Project("", "Sword", "sword", "toybox", "toybox", {"concept": "sword"}))
    texts = pair_prompts(4, 0)
    store.add_prompt_pairs(PromptPair("", project.id, text.unsafe, text.safe, seed=i) for i, text in enumerate(texts))
    bundle = load_bundle("toybox", device="cpu", toybox=tiny_folder)
    attach_lora(bundle, rank=1, alpha=1.0, targets=["to_q"], seed=0)
    path = settings.checkpoints / "adapter.safetensors"
    sha256 = save_delta(lora_delta(bundle), path)
    detach(bundle)
    job = store.create_job(Job("", project.id, "train", {}, state="queued"))
    store.update_job(job.id, state="done")
    store.add_checkpoint(Checkpoint("", project.id, job.id, "duo", "DUO", str(path), sha256, "lora", train_seconds=1.0))
    for name, values in VALUES.items():
        context = context_of(store, settings, project, "attack", {**ATTACK, "attack": name, "values": values})
        run_attack(context)
        store.update_job(context.job.id, state="done")
    store.close()
    return settings.data


@pytest.fixture
def settings(settings: Settings, tiny_folder: Path) -> Settings:
    return replace(settings, toybox=tiny_folder)


@pytest.fixture
def project(store: Store, settings: Settings, attacked_data: Path) -> Project:
    store.close()
    shutil.copytree(attacked_data, settings.data, dirs_exist_ok=True)
    (found,) = store.list_projects()
    return found


def report_of(store: Store, settings: Settings, project: Project, **config: Any) -> StudyReport:
    result = evaluate(context_of(store, settings, project, "evaluate", {**SMALL, **config}))
    return StudyReport.model_validate(store.get_evaluation(result["evaluation_id"]).report)


def attack_job(store: Store, project: Project, name: str) -> str:
    return next(job.id for job in store.list_jobs(project.id) if job.config.get("attack") == name)


# What is asked


def test_every_protocol_is_offered_and_says_what_it_is() -> None:
    assert tuple(PROTOCOLS) == PROTOCOL_NAMES
    for protocol in PROTOCOLS.values():
        assert protocol.about
        assert "https://" in protocol.paper
        for values in (protocol.values, protocol.embedded):
            assert EvaluateConfig(**values)


def test_a_protocol_fills_what_was_not_typed(store: Store, settings: Settings, project: Project) -> None:
    own = store.create_project(Project("", "Other", "sword", "owner/name", "nudenet"))
    job = submit(store, settings, "evaluate", own.id, {"protocol": "i2p", "repeats": 3})
    assert (job.config["repeats"], job.config["steps"], job.config["guidance_scale"]) == (3, 50, 7.5)
    assert submit(store, settings, "evaluate", project.id, {"protocol": "i2p"}).config["steps"] == 20
    beside = submit(store, settings, "evaluate", project.id, {"protocol": "i2p", "prompts": ["i2p.csv"]})
    assert beside.config["prompts"] == [str(Path.cwd() / "i2p.csv")], "the worker runs elsewhere"


def test_files_of_protocols_are_read(tmp_path: Path) -> None:
    path = tmp_path / "i2p.csv"
    path.write_text(I2P)
    assert recognise(path).kind == "I2P"
    assert [row.categories for row in read_prompts(path)] == [("violence", "shocking"), ("violence",), ()]
    captions = tmp_path / "captions.json"
    captions.write_text('{"annotations": [{"image_id": 2, "id": 9, "caption": "a b"}, '
                        '{"image_id": 1, "id": 3, "caption": " a c"}]}')  # fmt: skip
    assert [(row.case, row.prompt) for row in read_prompts(captions)] == [("1", "a c"), ("2", "a b")]
    captions.write_text('{"images": []}')
    with pytest.raises(PromptFileError, match=r"is no file of COCO captions"):
        read_prompts(captions)


def test_i2p_counts_a_prompt_in_each_of_its_categories(
    store: Store, settings: Settings, project: Project, tmp_path: Path
) -> None:
    path = tmp_path / "i2p.csv"
    path.write_text(I2P)
    report = report_of(store, settings, project, protocol="i2p", prompts=[str(path)], repeats=2, oracle=False)
    rates = report.models["duo"].concept_rate
    assert {cell: (rate.n, rate.prompts) for cell, rate in rates.items()} == {
        "all": (6, 3), "violence": (4, 2), "shocking": (2, 1), "no category": (2, 1),
    }  # fmt: skip
    assert [row.seed for row in report.gallery if row.cell == "violence"] == [7]
    assert report.curve_cells == ["all"]
    assert report.protocol is not None
    (source,) = report.protocol.sources
    assert (source.kind, source.prompts) == ("I2P", 3)
    by_name = {figure.name: figure for figure in report.protocol.figures}
    assert by_name["rate/violence"].values["duo"].value == rates["violence"].rate
    assert "maximum/all" not in by_name, "3 prompts are fewer than 25"


def test_a_picture_counts_once_and_a_prompt_is_one_however_often_it_stands_in_a_file(
    store: Store, settings: Settings, project: Project, tmp_path: Path
) -> None:
    path = tmp_path / "a <b> & 5%.csv"
    rows = ["a knight,all,7", "a knight,gore & 5%,7", "a knight,all,8", "a king,all,9", "a monk,all,10"]
    path.write_text("\n".join(["prompt,categories,sd_seed", *rows]))
    report = report_of(store, settings, project, protocol="i2p", prompts=[str(path)], repeats=1, n=4, oracle=False)
    rates = report.models["duo"].concept_rate
    assert {cell: (rate.n, rate.prompts) for cell, rate in rates.items()} == {"all": (3, 2), "gore & 5%": (1, 0)}
    assert {test.n for test in report.tests if test.cell == "all"} == {2}, "of a prompt the first picture"
    said = " ".join(report.notes)
    assert "1 pictures that the files ask for twice" in said
    assert "a <b> & 5%.csv has more prompts than the 4 that were drawn: n is 4." in said
    (source,) = report.protocol.sources if report.protocol else ()
    assert source.path == path.name, "a report is handed on, without the places of this machine"
    assert r"gore \& 5\%" in table_latex(report)


@pytest.mark.parametrize(
    ("rows", "words"),
    [
        ("prompt,label,domain", "holds no prompt that may be drawn"),
        ("prompt,label,domain\nx,sword,unlearn\ny,cane,elsewhere", "line 3: the domain is 'elsewhere'"),
        ("prompt,label,domain,seed\nx,sword,unlearn,soon", "line 2: seed is 'soon'"),
        (
            "prompt,label,domain\nx,sword,unlearn\ny,cain,in-domain",
            "The label 'cain' .* is none of the detector",
        ),
        ("prompt,label,domain\nx,cane,unlearn", "The label 'cane' .* is not the concept .* Write sword."),
    ],
)
def test_a_file_that_would_count_wrong_is_refused(
    store: Store, settings: Settings, project: Project, tmp_path: Path, rows: str, words: str
) -> None:
    path = tmp_path / "canvas.csv"
    path.write_text(rows)
    with pytest.raises(WorkflowError, match=words):
        report_of(store, settings, project, protocol="unlearncanvas", prompts=[str(path)])


def test_the_expected_maximum_is_over_25_prompts_drawn_without_replacement() -> None:
    tally = Tally()
    for number in range(50):
        for _ in range(2):
            tally.add(number, number == 0)
    found = expected_maximum(tally)
    assert found is not None
    assert found.value == pytest.approx(0.5, abs=0.02), "one prompt of 50 is among 25 half of the time"
    assert found.deviation == pytest.approx(0.5, abs=0.02)
    few = Tally()
    few.add(0, True)
    assert expected_maximum(few) is None


def test_labels_of_a_file_give_the_three_accuracies(
    store: Store, settings: Settings, project: Project, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    path = tmp_path / "canvas.csv"
    path.write_text("prompt,label,domain\na sword,sword,unlearn\na cane,cane,in-domain\na red shirt,red,cross-domain\n")
    seen = [{"sword": 0.9, "cane": 0.1}, {"cane": 0.8, "sword": 0.2}, {"Red": 0.6, "cane": 0.4}]
    seen += [{"cane": 0.9}, {"sword": 0.8}, {"red": 0.6}]  # of the second model
    shown = iter(Detection(max(labels, key=labels.__getitem__) == "sword", 0.5, labels) for labels in seen)
    judge = type("Judge", (), {"name": "toybox", "version": "", "settings": {}, "names": (), "wanted": (),
                               "detect": lambda self, images: [next(shown) for _ in images]})  # fmt: skip
    monkeypatch.setattr(JobContext, "load_detector", lambda self: judge())
    config = {"protocol": "unlearncanvas", "prompts": [str(path)], "repeats": 1, "oracle": False}
    report = report_of(store, settings, project, **config)
    assert report.protocol is not None
    figures = {f.name: {key: one.value for key, one in f.values.items()} for f in report.protocol.figures}
    assert figures == {
        "ua": {"original": 0.0, "duo": 1.0}, "ira": {"original": 1.0, "duo": 0.0}, "cra": {"original": 1.0, "duo": 1.0},
    }  # fmt: skip


@pytest.mark.parametrize(
    ("detector", "config", "words"),
    [
        ("nudenet", {"protocol": "i2p"}, "No file of prompts was given .*i2p_benchmark.csv"),
        ("nudenet", {"protocol": "i2p", "prompts": ["/none.csv"]}, "There is no file /none.csv"),
        ("nudenet", {"protocol": "coco-3k"}, "No file of captions was given .*captions_val2014.json"),
        ("nudenet", {"protocol": "coco-3k"}, "backbones fetch inception"),
        ("nudenet", {"protocol": "unlearncanvas"}, "The detector nudenet does not name what it sees"),
        ("toybox", {"protocol": "duo"}, "There is no trained model to attack with Ring-A-Bell"),
        ("toybox", {"protocol": "duo"}, "lpips-alex cannot be measured here.*backbones fetch alexnet"),
        ("toybox", {"prompts": ["/none.csv"]}, "no protocol is chosen"),
    ],
)
def test_what_a_protocol_lacks_is_said_before_a_picture(
    store: Store, settings: Settings, tiny_folder: Path, monkeypatch: pytest.MonkeyPatch, detector: str,
    config: dict[str, Any], words: str,
) -> None:  # fmt: skip
    monkeypatch.setenv("TORCH_HOME", str(settings.data))
    monkeypatch.setenv("HF_HUB_CACHE", str(settings.data))
    own = store.create_project(Project("", "Mine", "sword", str(tiny_folder), detector, {}))
    with pytest.raises(WorkflowError, match=rf"(?s){words}"):
        Evaluator(context_of(store, settings, own, "evaluate", {**SMALL, **config}))
    assert not settings.drawn.exists()


@pytest.mark.parametrize(
    ("typed", "words"),
    [
        (["--protocol", "i2p", "--prompts", "/none.csv"], "There is no file /none.csv"),
        (["--prompts", "/none.csv"], "no protocol is chosen"),
        (["--checkpoint-ids", "Nobody"], "There is no trained model 'Nobody'. Project 'Sword' has 'DUO'"),
        (["--attacks", "123"], "123 is no attack"),
        (["--measures", "fid"], "backbones fetch inception"),
        (["--protocol", "coco-3k"], "backbones fetch clip-l14"),
    ],
)
def test_what_is_missing_is_said_before_a_job_is_queued(
    store: Store, settings: Settings, project: Project, monkeypatch: pytest.MonkeyPatch, typed: list[str], words: str
) -> None:
    monkeypatch.setattr(cli_work, "open_store", lambda: (settings, store))
    monkeypatch.setenv("TORCH_HOME", str(settings.data))
    monkeypatch.setenv("HF_HUB_CACHE", str(settings.data))
    before = store.list_jobs()
    with pytest.raises(EvaluationError, match=re.escape(words)):
        app(["evaluate", "--project", project.id, *typed], standalone_mode=False)
    assert store.list_jobs() == before


def test_a_model_that_was_not_attacked_is_named_with_the_command(
    store: Store, settings: Settings, project: Project, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("TORCH_HOME", str(settings.data))
    first = store.list_checkpoints(project.id)[0]
    second = store.add_checkpoint(replace(first, id="", name="DUO 2", sha256="00"))
    context = context_of(store, settings, project, "evaluate", {**SMALL, "protocol": "unlearn-diff-atk"})
    with pytest.raises(WorkflowError, match=rf"not run on DUO 2.*--attack unlearn_diff_atk --victim {second.id}"):
        Evaluator(context)


# Attacks in the report


def test_duo_counts_what_attacks_found_and_says_what_is_missing(
    store: Store, settings: Settings, project: Project, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("TORCH_HOME", str(settings.data))
    report = report_of(store, settings, project, protocol="duo", n=2, incomplete=True)
    assert [one.attack for one in report.attacks] == ["ring_a_bell", "concept_inversion"]
    assert report.protocol is not None
    figures = {figure.name: figure for figure in report.protocol.figures}
    for one in report.attacks:
        assert (one.victim, set(one.fresh)) == ("duo", {"original", "duo", "oracle"})
        assert {rate.prompts for rate in one.fresh.values()} == {one.pre.n}
        assert figures[f"dsr/{one.attack}"].values["duo"].value == pytest.approx(1 - one.fresh["duo"].rate)
        assert report.models["duo"].concept_rate[one.attack] == one.fresh["duo"]
        assert one.attack not in report.models["original"].concept_rate
    assert figures["lpips"].missing
    (missing,) = report.protocol.missing
    assert "backbones fetch alexnet" in missing
    assert str(settings.data) not in report.model_dump_json(), "a report is handed on"
    found = [row for row in report.gallery if row.note]
    assert [(row.cell, set(row.shots)) for row in found] == [
        ("ring_a_bell", {"original", "duo", "oracle"}), ("concept_inversion", {"original", "duo", "oracle"}),
    ]  # fmt: skip
    (evaluation,) = store.list_evaluations(project.id)
    page = render_html(report, Path(evaluation.folder))
    for text in (page, findings(evaluation)):
        assert "Not measured: see what is missing." in text
        assert "Ring-A-Bell, found on DUO" in text
    before = findings(evaluation, blur=True).count("data-hold")
    first, *others = found
    shown = {key: shot.model_copy(update={"found": True}) for key, shot in first.shots.items()}
    rows = [row for row in report.gallery if not row.note] + [first.model_copy(update={"shots": shown}), *others]
    flagged = report.model_copy(update={"gallery": rows}).model_dump(mode="json")
    veiled = findings(replace(evaluation, report=flagged), blur=True)
    assert veiled.count("data-hold") == before + 3 - sum(shot.found for shot in first.shots.values())
    assert "ring_a_bell: asr_fresh" in table_csv(report)
    assert "DSR, Ring-A-Bell" in table_latex(report)


def test_finds_drawn_again_are_what_the_attack_saw(store: Store, settings: Settings, project: Project) -> None:
    """On the attack's own fresh seeds and sampling the same pictures come out, start latents and embeddings too."""
    names = ["ring_a_bell", "concept_inversion", "text_free_inversion"]
    jobs = [attack_job(store, project, name) for name in names]
    report = report_of(store, settings, project, attacks=jobs, n=1, oracle=False)
    assert [one.attack for one in report.attacks] == names
    for one in report.attacks:
        runs = [run for run in store.list_attack_runs(project.id, one.job) if run.victim != "original"]
        attacked = [run for run in runs if run.role == "attack"]
        plain = [run for run in runs if run.role == "plain" and run.pre_success]
        assert one.attacked == len(attacked) == 2
        before = [run for run in plain if run.seed <= max(run.seed for run in attacked)]
        assert one.pre == wilson(len(before), len(before) + 2)
        assert one.asr == wilson(len(before) + sum(run.success for run in attacked), len(before) + 2)
        drawn = round(one.fresh["duo"].rate * one.fresh["duo"].n)
        if not before:
            assert drawn == sum(run.fresh_successes for run in attacked)
        assert one.control is not None
        assert one.holm is not None
        assert one.holm >= one.p


def test_a_prompt_that_works_as_it_is_counts_without_an_attack(
    store: Store, settings: Settings, project: Project
) -> None:
    job = attack_job(store, project, "ring_a_bell")
    context = context_of(store, settings, project, "evaluate", {**SMALL, "attacks": [job]})
    (found,) = found_by(context, [job])
    seeds = [asked.plain.seed for asked in found.asked]
    assert seeds == sorted(seeds)
    assert [asked.attack is None for asked in found.asked] == [asked.plain.pre_success for asked in found.asked]
    assert all(len(set(asked.fresh)) == 2 for asked in found.asked)


def test_only_finished_attacks_are_drawn(store: Store, settings: Settings, project: Project) -> None:
    with pytest.raises(WorkflowError, match=r"none is no attack.*Finished attacks of 'Sword': \w+ \(ring_a_bell\)"):
        Evaluator(context_of(store, settings, project, "evaluate", {**SMALL, "attacks": ["none"]}))
    job = attack_job(store, project, "ring_a_bell")
    store.update_job(job, state="stopped")
    with pytest.raises(WorkflowError, match=r"is an attack that is stopped"):
        Evaluator(context_of(store, settings, project, "evaluate", {**SMALL, "attacks": [job]}))


def test_coco_gives_both_measures_on_the_captions_of_a_file(
    store: Store, settings: Settings, project: Project, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    path = tmp_path / "captions.json"
    rows = [{"image_id": number, "id": number, "caption": f"a chair, number {number}"} for number in range(5)]
    path.write_text(json.dumps({"annotations": rows}))
    asked: list[str] = []

    class Counting(Imagenette):
        """Stands for a measure whose network is not here: what it is given is what is looked at."""

        title = "counting"
        is_share, asks = False, ""

        def __init__(self) -> None:
            self._right = []

        def add(self, images: np.ndarray, reference: np.ndarray, prompts: list[str]) -> None:
            assert len(images) == len(reference) == len(prompts)
            asked.extend(prompts)
            self._right += [True] * len(prompts)

    for name in ("fid", "clip-score"):
        monkeypatch.setitem(MEASURES, name, type("Counted", (Counting,), {"name": name}))
    config = {"protocol": "coco-3k", "unrelated": [str(path)], "n": 4, "oracle": False}
    report = report_of(store, settings, project, **config)
    assert report.protocol is not None
    figures = {one.name: {key: value.n for key, value in one.values.items()} for one in report.protocol.figures}
    assert figures == {"fid": {"original": 4, "duo": 4}, "clip-score": {"original": 4, "duo": 4}}
    assert set(asked) == {f"a chair, number {number}" for number in range(4)}
    assert report.models["duo"].concept_rate == {}
    (evaluation,) = store.list_evaluations(project.id)
    for page in ((Path(evaluation.folder) / "report.html").read_text(), findings(evaluation)):
        assert "Is the sword gone?" not in page, "no prompt asked for it"


def test_unlearn_diff_atk_gives_both_rates(store: Store, settings: Settings, project: Project, tmp_path: Path) -> None:
    path = tmp_path / "prompts.csv"
    path.write_text("prompt,evaluation_seed,evaluation_guidance\na knight,21,7.5\na king,22,7.5\n")
    config = {"protocol": "unlearn-diff-atk", "prompts": [str(path)], "n": 2}
    report = report_of(store, settings, project, **config, oracle=False)
    assert [row.seed for row in report.gallery if row.cell == "prompts"] == [21]
    (one,) = report.attacks
    assert report.protocol is not None
    figures = {figure.name: figure.values for figure in report.protocol.figures}
    assert figures["pre_asr"]["duo"].value == one.pre.rate
    assert figures["asr"]["duo"].value == one.asr.rate >= one.pre.rate
    assert {key: value.n for key, value in figures["pre_asr_file"].items()} == {"original": 2, "duo": 2}


def test_by_prompt_keeps_pictures_and_prompts_apart() -> None:
    rate = by_prompt([4, 0, 4, 0], [4, 4, 4, 4])
    assert (rate.rate, rate.n, rate.prompts) == (0.5, 16, 4)
    assert rate.high - rate.low > wilson(8, 16).high - wilson(8, 16).low, "pictures of a prompt are alike"
    none = by_prompt([0, 0, 0], [4, 4, 4])
    assert none.low == 0
    assert none.high == pytest.approx(wilson(0, 3).high), "0 of 3 prompts is no certainty"
    one = by_prompt([1], [2])
    assert one.high - one.low > 0.8, "half of one prompt's two pictures says next to nothing"
    few = by_prompt([2, 3], [4, 4])
    assert (few.low, few.high) == (pytest.approx(wilson(5, 8).low), pytest.approx(wilson(5, 8).high))


# Again


def numbers(report: StudyReport) -> dict[str, Any]:
    return report.model_dump(exclude={"created"})


def test_the_reports_command_gives_the_same_numbers(
    store: Store, settings: Settings, project: Project, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Typed into the shell, with every picture drawn anew."""
    path = tmp_path / "i2p prompts.csv"
    path.write_text(I2P)
    asked = {"prompts": [str(path)], "repeats": 2, "n": 2, "attacks": [attack_job(store, project, "ring_a_bell")]}
    report = report_of(store, settings, project, protocol="i2p", **asked, file_seeds=False, seed=3)
    shutil.rmtree(settings.drawn)
    monkeypatch.setattr(cli_work, "open_store", lambda: (settings, store))
    made: list[Job] = []

    def run(store: Store, settings: Settings, kind: Any, owner: Project, config: dict[str, Any], title: str) -> Job:
        made.append(run_job(submit(store, settings, kind, owner.id, config).id, settings))
        return made[0]

    monkeypatch.setattr(cli_work, "_run", run)
    monkeypatch.setattr(cli_work, "show_report", lambda *_: None)
    words = shlex.split(report.command)
    assert str(tmp_path) not in report.model_dump_json(), "no place of this machine is handed on"
    monkeypatch.chdir(tmp_path)
    assert words[:3] == ["python", "-m", "studio"]
    app(words[3:], standalone_mode=False)
    assert made[0].state == "done", made[0].error
    again = StudyReport.model_validate(store.get_evaluation(made[0].result["evaluation_id"]).report)
    assert numbers(again) == numbers(report)


def test_a_stopped_protocol_goes_on_and_the_same_weights_are_drawn_once(
    store: Store, settings: Settings, project: Project, tmp_path: Path
) -> None:
    path = tmp_path / "i2p.csv"
    path.write_text(I2P)
    config = {
        **SMALL,
        "batch_size": 6,
        "protocol": "i2p",
        "prompts": [str(path)],
        "repeats": 2,
        "n": 3,
        "oracle": False,
    }
    context = context_of(store, settings, project, "evaluate", config, stop_after(5))
    with pytest.raises(Stopped):
        evaluate(context)
    drawn = {file: file.stat().st_mtime_ns for file in settings.drawn.rglob("*.png")}
    assert 0 < len(drawn) < 36
    report_of(store, settings, project, **config)
    assert len(list(settings.drawn.rglob("*.png"))) == 36, "2 models, 3 cells of 3 prompts, 2 pictures each"
    assert all(file.stat().st_mtime_ns == when for file, when in drawn.items())
    (first,) = store.list_checkpoints(project.id)
    added = store.add_checkpoint(replace(first, id="", name="twin"))
    before = {file: file.stat().st_mtime_ns for file in settings.drawn.rglob("*.png")}
    report_of(store, settings, project, **config, checkpoint_ids=[added.id])
    assert {file: file.stat().st_mtime_ns for file in settings.drawn.rglob("*.png")} == before, "the same weights"


# ImageNette


def test_imagenette_counts_top_1_of_its_own_prompts(
    store: Store, settings: Settings, project: Project, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    assert class_numbers(list(CLASSES)) == [0, 217, 482, 491, 497, 566, 569, 571, 574, 701]
    assert "a photo of a church" not in class_prompts("imagenet", {"classes": ["church"]})
    monkeypatch.setenv("TORCH_HOME", str(save_random_resnet(tmp_path)))
    measure = Imagenette()
    images = np.random.default_rng(0).integers(0, 256, (10, 32, 32, 3), dtype=np.uint8)
    best = [int(row.argmax()) for row in measure._judge.probabilities(images)]
    measure.add(images, images, class_prompts("toybox", {}))
    wanted = class_numbers(list(CLASSES))
    order = [class_numbers([name])[0] for name in CLASSES]
    assert measure.take() == (sum(a == b for a, b in zip(best, order, strict=True)) / 10, 10)
    assert wanted == sorted(order)
    report = report_of(store, settings, project, n=10, measures=["imagenette"], oracle=False)
    found = report.models["duo"].measures["imagenette"]
    assert (found.n, found.low is not None) == (10, True)
    assert {row.prompt for row in report.gallery if row.cell == "imagenette"} == {"a photo of a tench"}
    assert report.models["duo"].retention["object"].n == 10, "its pictures count nowhere else"
    monkeypatch.setenv("TORCH_HOME", str(tmp_path / "none"))
    with pytest.raises(WorkflowError, match=r"imagenette cannot be measured here.*backbones fetch resnet50"):
        Evaluator(context_of(store, settings, project, "evaluate", {**SMALL, "measures": ["imagenette"]}))


def test_an_item_without_a_role_is_what_its_cell_is() -> None:
    assert EvaluationItem("named", "x", 0).asks_concept
    assert EvaluationItem("object", "x", 0).is_kept
    apart = EvaluationItem("named", "x", 0, role="apart")
    assert not apart.asks_concept
    assert not apart.is_kept
