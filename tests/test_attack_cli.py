"""`python -m studio attack`: what it costs, what it refuses, and a whole run on a random tiny checkpoint."""

from __future__ import annotations

import csv
from dataclasses import replace
from pathlib import Path

import pytest

from models.adapters import WeightDelta, save_delta
from studio.attack_configs import ATTACK_CONFIGS, AttackJobConfig, attack_config
from studio.cli import main
from studio.cli.attack import cost_line
from studio.inference.messages import ModelChoice, RenderRequest
from studio.inference.renderer import Renderer
from studio.jobs import submit
from studio.records import Checkpoint, Project
from studio.refusal import RefusedError
from studio.settings import Settings
from studio.store import Store
from studio.ui.words import job_title
from tests.conftest import make_tiny_bundle


@pytest.fixture(autouse=True)
def settings(settings: Settings, tiny_folder: Path, monkeypatch: pytest.MonkeyPatch) -> Settings:
    settings = replace(settings, toybox=tiny_folder)
    for name, value in settings.environment().items():
        monkeypatch.setenv(name, value)
    monkeypatch.setenv("COLUMNS", "220")
    return settings


@pytest.fixture
def project(store: Store, settings: Settings) -> Project:
    """With a trained model that changes one number."""
    made = store.create_project(Project("", "Sword", "sword", "toybox", "toybox", {"concept": "sword"}))
    bundle = make_tiny_bundle()
    bias = bundle.denoiser.conv_out.bias.detach()
    path = settings.checkpoints / "adapter.safetensors"
    sha256 = save_delta(WeightDelta("weights", {"conv_out.bias": 0.01 * bias.abs().clamp(min=0.1)}), path)
    job = submit(store, settings, "pairs", made.id, {})
    store.update_job(job.id, state="done")
    store.add_checkpoint(Checkpoint("", made.id, job.id, "duo", "DUO", str(path), sha256, "weights"))
    return made


def test_the_most_it_may_cost_is_said_first(project: Project, capsys: pytest.CaptureFixture[str], store: Store) -> None:
    arguments = ["attack", "-p", "Sword", "--attack", "p4d", "--n", "3", "--fresh", "2", "--set", "steps=100"]
    assert main([*arguments, "--dry-run"]) == 0
    said = capsys.readouterr().out
    # 100 steps of 4 latents for each of 3 prompts, twice forward; the victim is asked every 15 steps, 7 times a prompt.
    assert "At most 21 queries and 21 of the control, 303 prompts through the text encoder, " in said
    assert "2,400 forward and 1,200 backward passes of a UNet, and 18 pictures to judge" in said
    assert all(job.kind != "attack" for job in store.list_jobs(project.id))


@pytest.mark.parametrize("name", ATTACK_CONFIGS)
def test_every_attack_and_budget_has_a_cost(name: str) -> None:
    for budget in ("quick", "published", "thorough"):
        assert "At most" in cost_line(AttackJobConfig(attack=name, budget=budget), 2)
        assert attack_config(name, budget).model_fields_set <= set(ATTACK_CONFIGS[name].model_fields)


@pytest.mark.usefixtures("project")
@pytest.mark.parametrize(
    ("arguments", "words"),
    [
        (["--attack", "x"], "There is no attack 'x'; use one of none, random_tokens"),
        (["--victim", "nobody"], "0 models of 'Sword' are named 'nobody'; use one of: original, oracle, DUO ("),
        (["--set", "generations"], "is not name=value"),
        (["--set", "generations=-1"], "--set of ring_a_bell: generations = '-1': it must be at least 0."),
        (["--set", "generations=many"], "generations = 'many': it must be a whole number."),
        (["--set", "colour=1"], "colour = '1': there is no such value; use one of seed, eta, "),
        (["--prompts", "nowhere.csv"], "There is no file nowhere.csv"),
    ],
)
def test_what_is_wrong_is_said_in_a_line(arguments: list[str], words: str, capsys: pytest.CaptureFixture[str]) -> None:
    assert main(["attack", "-p", "Sword", *arguments]) == 2
    assert words in capsys.readouterr().err


@pytest.mark.slow
def test_a_whole_attack(project: Project, store: Store, tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    prompts = tmp_path / "mine.csv"
    prompts.write_text("case_number,prompt\n" + "".join(f"{n},a knight number {n}\n" for n in range(12)))
    out = tmp_path / "found.csv"
    arguments = ["--attack", "ring_a_bell", "--set", "generations=2", "--set", "population=4", "--set", "tokens=3"]
    arguments += ["--victim", "duo", "--victim", "oracle", "--n", "2", "--fresh", "2", "--steps", "2"]
    assert main(["attack", "-p", "Sword", *arguments, "--prompts", str(prompts), "--out", str(out)]) == 0
    said = capsys.readouterr().out
    assert "Share that shows the concept" in said
    assert "random_tokens" in said
    assert "Oracle" in said
    rows = list(csv.DictReader(out.open()))
    runs = [run for run in store.list_attack_runs(project.id) if run.role == "attack"]
    assert [row["prompt"] for row in rows] == [run.found_prompt for run in runs]
    assert {row["model"] for row in rows} <= {"DUO", "Oracle"}
    assert {run.prompt for run in runs} <= {f"a knight number {n}" for n in range(12)}


def test_a_refused_prompt_is_not_drawn_for_compare_either(settings: Settings) -> None:
    request = RenderRequest([ModelChoice("Original", "toybox")], ["a knight", "a teenage girl"], [0])
    with pytest.raises(RefusedError, match="Prompt 2 of 2: This prompt is not drawn"):
        Renderer(settings).render(request, lambda progress: None)
    assert not list(settings.images.rglob("*.png"))


def test_the_page_has_words_for_the_job(project: Project, store: Store, settings: Settings) -> None:
    assert job_title(submit(store, settings, "attack", project.id, {"attack": "p4d"})) == "Attack · p4d"
