"""The verbs of `python -m studio`: what they print, their exit codes, and a whole run on a random tiny checkpoint."""

from __future__ import annotations

import json
import os
import re
import socket
import subprocess
import sys
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from PIL import Image

from studio.cli import main
from studio.cli.compare import choose_model, grid_of
from studio.cli.options import CommandError
from studio.configs import DemoConfig, EvaluateConfig, PairsConfig
from studio.demo import QUICK_N, demo_command
from studio.images import image_path, put_image
from studio.inference.messages import Cell, ModelChoice, RenderRequest, RenderResult
from studio.jobs import Runner, submit
from studio.method_configs import METHOD_CONFIGS
from studio.methods.training import STATE_FILE
from studio.presets import PRESETS
from studio.records import Checkpoint, Project
from studio.reports.schema import StudyReport
from studio.settings import REPOSITORY, Settings
from studio.store import Store

VERBS = ("serve", "demo", "pairs", "train", "compare", "evaluate", "jobs", "clean", "doctor")


@pytest.fixture(autouse=True)
def settings(settings: Settings, tiny_folder: Path, monkeypatch: pytest.MonkeyPatch) -> Settings:
    """The shell's environment names an empty data folder and the tiny checkpoint."""
    settings = replace(settings, toybox=tiny_folder)
    for name, value in settings.environment().items():
        monkeypatch.setenv(name, value)
    monkeypatch.setenv("COLUMNS", "200")
    return settings


@pytest.fixture
def project(store: Store) -> Project:
    return store.create_project(Project("", "Sword", "sword", "toybox", "toybox"))


def test_help_names_every_verb(capsys: pytest.CaptureFixture[str]) -> None:
    assert main(["--help"]) == 0
    printed = capsys.readouterr().out
    assert all(f"  {verb} " in printed for verb in VERBS)


@pytest.mark.parametrize(
    ("verb", "config"),
    [
        (["pairs"], PairsConfig),
        (["evaluate"], EvaluateConfig),
        *((["train", method], config) for method, config in METHOD_CONFIGS.items()),
    ],
)
def test_every_field_of_a_configuration_is_an_option(
    verb: list[str], config: Any, capsys: pytest.CaptureFixture[str]
) -> None:
    assert main([*verb, "--help"]) == 0
    printed = capsys.readouterr().out
    options = {f"--{name.replace('_', '-')}" for name in config.model_fields if name != "command"}
    assert options <= set(re.findall(r"--[a-z-]+", printed))


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        (["evaluate", "--project", "Rose"], "There is no project 'Rose'. Projects: 'Sword' ("),
        (["train", "duo", "--project", "Sword", "--beta", "-1"], "Method duo: beta = -1.0"),
        (["train", "duo", "--project", "Sword", "--preset", "paper: esd-x"], "duo has no preset 'paper: esd-x'"),
        (["jobs", "show", "0"], "There is no Job with the id '0'"),
        (["compare", "a knight", "--model", "toybox"], "1 model is nothing to compare"),
        (["compare", "a knight", "--model", "toybox", "--model", "a b"], "'a b' names no checkpoint"),
        (["demo", "--quick", "--n", "9"], "--quick means --n 50, but --n is 9"),
        (["pairs", "--project", "New", "--detector", "nose"], "There is no detector 'nose'"),
        (["pairs", "--project", "New", "--concept", "zebra"], "concept = 'zebra': it must be 'sword'"),
        (["pairs", "--project", "New", "--checkpoint", "a b"], "'a b' names no checkpoint"),
        (["pairs", "--project", "Sword", "--prompts", "nowhere.csv"], "No such file or directory (nowhere.csv)"),
    ],
)
def test_what_cannot_be_done_is_said_in_one_line(
    arguments: list[str], message: str, project: Project, capsys: pytest.CaptureFixture[str]
) -> None:
    assert main(arguments) == 2
    error = capsys.readouterr().err
    assert error.startswith(f"Error: {message}")
    assert error.count("\n") == 1


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        (["--seed", "-1"], "Seed -1 is out of range"),
        (["--seed", "9" * 30], "is out of range; use a whole number from 0 to"),
        (["--out", "."], "--out is the folder .; name a file in it"),
        (["--out", "/dev/null/x.png"], "exists (/dev/null)"),
    ],
)
def test_a_comparison_that_cannot_be_made_is_said_before_anything_is_drawn(
    arguments: list[str], message: str, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.setattr("studio.cli.compare.InferenceClient", None)
    assert main(["compare", "a knight", "--model", "toybox", "--model", "oracle", *arguments]) == 2
    error = capsys.readouterr().err
    assert message in error
    assert error.count("\n") == 1


def test_models_of_two_sizes_have_no_grid(settings: Settings) -> None:
    request = RenderRequest([ModelChoice("Small", "toybox"), ModelChoice("Large", "toybox")], ["a knight"], [0])
    cells = []
    for index, size in enumerate((64, 128)):
        name = put_image(settings, np.zeros((size, size, 3), np.uint8))
        cells.append(Cell(index, "a knight", 0, str(image_path(settings, name)), name))
    with pytest.raises(CommandError, match=r"differ in size \(Small 64 x 64, Large 128 x 128\); compare models of one"):
        grid_of(request, RenderResult(cells))


def test_a_data_file_that_is_none_is_named(settings: Settings, capsys: pytest.CaptureFixture[str]) -> None:
    settings.database.write_bytes(b"no database, whatever its name says" * 100)
    assert main(["jobs", "list"]) == 2
    assert f"Error: {settings.database} cannot be opened as the studio's data (file is not" in capsys.readouterr().err


@pytest.mark.parametrize("verb", ["show", "list"])
def test_a_reader_that_ends_early_ends_the_verb_quietly(
    verb: str, store: Store, settings: Settings, project: Project
) -> None:
    """As `| head` does; `show` prints by itself, `list` by rich."""
    job = submit(store, settings, "pairs", project.id, {})
    reader, writer = os.pipe()
    os.close(reader)
    command = [sys.executable, "-m", "studio", "jobs", verb, *([job.id] if verb == "show" else [])]
    ended = subprocess.run(command, stdout=writer, stderr=subprocess.PIPE, cwd=REPOSITORY, check=False)
    os.close(writer)
    assert ended.stderr == b""
    assert ended.returncode == 1


def test_a_wrong_option_is_the_shells_own_error(capsys: pytest.CaptureFixture[str]) -> None:
    assert main(["demo", "--speed", "9"]) == 2
    assert "No such option" in capsys.readouterr().err


def test_settings_from_the_environment_are_checked(
    monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.setenv("DUO_STUDIO_DEVICE", "abacus")
    assert main(["jobs", "list"]) == 2
    assert "DUO_STUDIO_DEVICE is 'abacus'" in capsys.readouterr().err


def test_a_data_folder_that_cannot_be_made_is_named(
    monkeypatch: pytest.MonkeyPatch, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    (tmp_path / "file").write_text("")
    monkeypatch.setenv("DUO_STUDIO_DATA", str(tmp_path / "file" / "data"))
    assert main(["jobs", "list"]) == 2
    assert "Set DUO_STUDIO_DATA" in capsys.readouterr().err


# doctor


def test_doctor_is_content(settings: Settings, capsys: pytest.CaptureFixture[str]) -> None:
    assert main(["doctor"]) == 0
    printed = capsys.readouterr().out
    for name in ("python", "torch", "diffusers", "gradio", "other packages", "device", "memory", "data folder"):
        assert name in printed
    for name in ("data file", "port", "embedded checkpoint", "its detector", "NudeNet's model", "backbone alexnet"):
        assert name in printed
    assert str(settings.data) in printed
    assert "missing" not in printed


def test_doctor_says_that_the_port_is_in_use(
    monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    with socket.create_server(("127.0.0.1", 0)) as server:
        monkeypatch.setenv("GRADIO_SERVER_PORT", str(server.getsockname()[1]))
        assert main(["doctor"]) == 0
        assert f"127.0.0.1:{server.getsockname()[1]} is in use" in capsys.readouterr().out
    assert main(["doctor"]) == 0
    assert "is free for the page" in capsys.readouterr().out


def test_doctor_names_packages_that_are_missing_or_other_than_pinned(
    monkeypatch: pytest.MonkeyPatch, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    pins = tmp_path / "requirements.txt"
    pins.write_text("# pins\nno-such-package==1.0\npillow==0.1\n")
    monkeypatch.setattr("studio.cli.doctor.PINS", pins)
    assert main(["doctor"]) == 1
    printed = capsys.readouterr()
    assert "cannot work here: no-such-package" in printed.err
    assert "install with `pip install no-such-package==1.0`" in printed.out
    assert "the studio was tested with 0.1" in printed.out


def test_doctor_names_a_damaged_data_file(settings: Settings, capsys: pytest.CaptureFixture[str]) -> None:
    settings.database.write_bytes(b"no database, whatever its name says" * 100)
    assert main(["doctor"]) == 1
    assert "cannot work here: data file" in capsys.readouterr().err


def test_doctor_names_a_missing_checkpoint(
    monkeypatch: pytest.MonkeyPatch, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.setenv("DUO_STUDIO_TOYBOX", str(tmp_path / "nothing"))
    assert main(["doctor"]) == 1
    printed = capsys.readouterr()
    assert "cannot work here: embedded checkpoint, its detector" in printed.err
    assert "make toybox" in printed.out


def test_doctor_names_a_data_folder_that_cannot_be_written(
    monkeypatch: pytest.MonkeyPatch, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    (tmp_path / "file").write_text("")
    monkeypatch.setenv("DUO_STUDIO_DATA", str(tmp_path / "file" / "data"))
    assert main(["doctor"]) == 1
    assert "data folder" in capsys.readouterr().err


# models by name


def test_models_are_chosen_by_word_name_or_id(store: Store, settings: Settings, project: Project) -> None:
    job = submit(store, settings, "evaluate", project.id, {})
    saved = [
        store.add_checkpoint(Checkpoint("", project.id, job.id, "duo", name, f"{name}.safetensors", "ab", "lora"))
        for name in ("DUO", "twin", "twin")
    ]
    assert choose_model(store, project, "original").checkpoint_ref == "toybox"
    assert choose_model(store, project, "oracle").checkpoint_ref == "toybox:oracle"
    for name in ("DUO", "duo"):
        assert choose_model(store, project, name).adapter_path == str(settings.data / "DUO.safetensors")
    assert choose_model(store, None, saved[2].id).adapter_sha256 == "ab"
    assert choose_model(store, None, "owner/name@v1").checkpoint_ref == "owner/name@v1"
    with pytest.raises(CommandError, match="2 checkpoints are named 'twin'"):
        choose_model(store, project, "twin")


# jobs


def test_jobs_are_listed_shown_and_stopped(
    store: Store, settings: Settings, project: Project, capsys: pytest.CaptureFixture[str]
) -> None:
    assert main(["jobs", "list"]) == 0
    assert "No jobs yet" in capsys.readouterr().out
    job = submit(store, settings, "pairs", project.id, {})
    assert main(["jobs", "stop", job.id]) == 0
    assert f"Job {job.id} is stopped." in capsys.readouterr().out
    assert main(["jobs", "list", "--project", "Sword"]) == 0
    assert re.search(rf"{job.id}\s+pairs\s+stopped\s+Sword", capsys.readouterr().out)
    assert main(["jobs", "show", job.id]) == 0
    assert '"strength": 0.7' in capsys.readouterr().out


def test_square_brackets_are_shown_as_they_are(
    store: Store, settings: Settings, capsys: pytest.CaptureFixture[str]
) -> None:
    project = store.create_project(Project("", "[b]Sword", "sword", "toybox", "toybox"))
    job = submit(store, settings, "pairs", project.id, {})
    store.update_job(job.id, state="failed", error="not [1, 2] but [/tmp]")
    assert main(["jobs", "list"]) == 0
    printed = capsys.readouterr().out
    assert "[b]Sword" in printed
    assert "not [1, 2] but [/tmp]" in printed


@pytest.mark.slow
def test_resume_follows_a_job_to_its_failure(
    store: Store, settings: Settings, project: Project, capsys: pytest.CaptureFixture[str]
) -> None:
    job = submit(store, settings, "pairs", project.id, {})
    main(["jobs", "stop", job.id])
    assert main(["jobs", "resume", job.id]) == 2
    out, error = capsys.readouterr()
    assert f"Job {job.id} (pairs of project 'Sword') goes on where it was" in out
    assert "no prompt pairs; add some first" in error
    assert f"python -m studio jobs resume {job.id}" in error


# everything


@pytest.mark.slow
def test_pairs_train_evaluate_and_compare(
    store: Store, settings: Settings, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    pairs = ["--steps", "4", "--batch-size", "6", "--no-filter-by-detector", "--auto-accept"]
    assert main(["pairs", "--project", "Mine", "--sample-prompts", "6", *pairs]) == 0
    assert "6 pairs are ready and 0 failed" in capsys.readouterr().out
    assert main(["train", "duo", "-p", "Mine", "--preset", "toybox: duo", "--steps", "2", "--rank", "2"]) == 0
    (saved,) = store.list_checkpoints()
    assert saved.sha256 in capsys.readouterr().out
    assert (saved.config["steps"], saved.config["layers"]) == (2, PRESETS["toybox: duo"].values["layers"])
    assert main(["evaluate", "-p", "Mine", "--n", "2", "--steps", "2", "--gallery", "1"]) == 0
    assert "sword seen: held out" in capsys.readouterr().out
    out = tmp_path / "grid" / "compare.png"
    models = ["--model", "original", "--model", "DUO", "--model", "oracle"]
    seeds = ["--seed", "1", "--seed", "2", "--steps", "2", "--out", str(out)]
    assert main(["compare", "a knight", "-p", "Mine", *models, *seeds]) == 0
    with Image.open(out) as grid:
        assert json.loads(grid.text["seeds"]) == [1, 2]
        assert [model["label"] for model in json.loads(grid.text["models"])] == ["Original", "DUO", "Oracle"]
        assert saved.sha256 in grid.text["models"]
        assert grid.width > 3 * 256


SHORT_WORKER = """
import sys
from dataclasses import replace
from studio import demo
from studio.workflow.__main__ import main

short = {"toybox: duo": {"steps": 4, "rank": 2, "save_every": 1}, "toybox: esd": {"steps": 2, "trajectories": 2}}
demo.PRESETS = {name: replace(preset, values=short.get(name, {})) for name, preset in demo.PRESETS.items()}
demo.TOYBOX_SAMPLING = {"steps": 4, "guidance_scale": 4.0}
sys.exit(main(sys.argv[1]))
"""


class InterruptedAt(Runner):
    """A runner at which Ctrl-C is pressed once, when the job's message first begins with `words`."""

    words = ""
    pressed = False

    def run_until_done(self, job_id: str, on_change: Any = None) -> Any:
        def changed(job: Any) -> None:
            if on_change is not None:
                on_change(job)
            if self.words and not self.pressed and job.message.startswith(self.words):
                self.pressed = True
                raise KeyboardInterrupt

        return super().run_until_done(job_id, changed)


@pytest.fixture
def short_demo(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """The demo's worker with trainings of a few steps."""
    script = tmp_path / "worker.py"
    script.write_text(SHORT_WORKER)

    def runner(store: Store, settings: Settings, interval: float) -> InterruptedAt:
        return InterruptedAt(store, settings, worker=[str(script)], interval=0.02)

    monkeypatch.setattr("studio.cli.demo.Runner", runner)
    monkeypatch.setattr("studio.cli.jobs.Runner", runner)


@pytest.mark.slow
@pytest.mark.usefixtures("short_demo")
def test_demo_goes_from_nothing_to_a_report_by_way_of_a_stop(
    store: Store, settings: Settings, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture
) -> None:
    out = tmp_path / "my demo"
    (out / "pictures").mkdir(parents=True)
    old = out / "pictures" / f"{'0' * 32}.png"
    old.write_bytes(b"")
    monkeypatch.setattr(InterruptedAt, "words", "2/4 Training DUO: Training, loss")
    assert main(["demo", "--n", "2", "--pairs", "8", "--seed", "5", "--out", str(out)]) == 130
    printed = capsys.readouterr()
    (job,) = store.list_jobs()
    assert printed.err == f"Demo was stopped.\nGo on with: python -m studio jobs resume {job.id} --out '{out}'\n"
    for text in ("Making pairs …", "Making pairs: ", "Training DUO …"):
        assert text in printed.out
    assert "Training DUO: " not in printed.out
    assert (job.kind, job.state, list(job.result)) == ("demo", "stopped", ["pairs"])
    assert (settings.checkpoints / f"{job.id}-duo" / STATE_FILE).is_file()
    monkeypatch.setattr(InterruptedAt, "words", "")
    assert main(["jobs", "resume", job.id, "--out", str(out)]) == 0
    printed = capsys.readouterr()
    assert "Making pairs" not in printed.out
    for text in ("Training DUO: ", "Training ESD: ", "Comparing models: ", "Forgetting “sword”"):
        assert text in printed.out
    report = StudyReport.read(out / "report.json")
    assert list(report.models) == ["original", "duo", "esd", "oracle"]
    assert (report.seed, report.n) == (5, 2)
    assert report.command == "python -m studio demo --seed 5 --n 2 --pairs 8"
    assert (out / "report.html").stat().st_size > 100_000
    assert {path.name for path in (out / "pictures").iterdir()} >= {
        Path(shot.picture).name for row in report.gallery for shot in row.shots.values()
    }
    assert not old.exists()
    assert [job.state for job in store.list_jobs()] == ["done"]
    steps = [row["step"] for row in store.job_metrics(job.id) if "duo.loss" in row]
    assert len(steps) == len(set(steps)) == 4  # none was trained twice


@pytest.mark.parametrize(
    ("config", "command"),
    [
        ({}, "python -m studio demo --seed 0"),
        ({"n": QUICK_N, "seed": 3}, "python -m studio demo --seed 3 --quick"),
        ({"n": 30, "pairs": 128}, "python -m studio demo --seed 0 --n 30 --pairs 128"),
        ({"methods": list(METHOD_CONFIGS)}, "python -m studio demo --seed 0 --methods all"),
        ({"methods": ["esd", "uce"]}, "python -m studio demo --seed 0 --methods esd,uce"),
    ],
)
def test_the_demos_command_makes_the_same_demo(
    config: dict[str, Any], command: str, store: Store, monkeypatch: pytest.MonkeyPatch
) -> None:
    wanted = DemoConfig(**config)
    assert demo_command(wanted) == command
    monkeypatch.setattr("studio.cli.demo.follow_demo", lambda runner, job, console, out: job)
    monkeypatch.setattr("studio.cli.demo.show_report", lambda *_: None)
    assert main([*command.removeprefix("python -m studio ").split(), "--out", str(store.database.parent / "out")]) == 0
    (job,) = store.list_jobs()
    assert DemoConfig(**job.config) == wanted
    assert len(store.list_prompt_pairs(job.project_id)) == wanted.pairs


def test_the_demo_names_the_methods_that_there_are(capsys: pytest.CaptureFixture[str]) -> None:
    assert main(["demo", "--methods", "duo,uec"]) != 0
    assert "no method 'uec'; use all, or some of duo, esd" in " ".join(capsys.readouterr().err.split())
