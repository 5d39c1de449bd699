"""What real attackers do, on a random tiny checkpoint: each condition, its rows, what a stop keeps; and transfer."""

from __future__ import annotations

import sys
from collections.abc import Iterator
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest
import torch

from models.adapters import WeightDelta, applied, attach_lora, detach, lora_delta, save_delta
from models.bundle import ModelBundle
from models.loading import load_bundle
from models.quantising import int8_rounded, int8_weights
from models.samplers import SAMPLERS, sampled_by
from studio.jobs import submit
from studio.progress import Stopped, silent
from studio.prompts import pair_prompts
from studio.records import AttackRun, Checkpoint, Project, PromptPair, Trial
from studio.reports.trials import lines_of, relearned_of, trials_csv
from studio.settings import Settings
from studio.store import Store
from studio.workflow import JobContext, WorkflowError
from studio.workflow.attack import attack
from studio.workflow.relearning import Lesson, denoising_loss, relearn
from studio.workflow.stress import Stress, stress
from studio.workflow.transfer import fresh_seed, transfer

SMALL = {"n": 2, "steps": 2, "scales": [0.5, 0.0], "samplers": ["euler"], "guidances": [2.0], "strengths": [0.5],
         "inpaint_strengths": [1.0], "concept_pictures": [2], "benign_pictures": 2, "relearn_at": [1, 2],
         "relearn_batch": 2}  # fmt: skip


@pytest.fixture(scope="module")
def made(tiny_folder: Path, tmp_path_factory: pytest.TempPathFactory) -> Iterator[tuple[Store, Settings, Project]]:
    """A project with prompts and one trained model, a LoRA that changes something."""
    settings = Settings(tmp_path_factory.mktemp("data"), device="cpu", threads=1, toybox=tiny_folder)
    settings.create_folders()
    store = Store(settings.database)
    project = store.create_project(Project("", "Sword", "sword", "toybox", "toybox", {"concept": "sword"}))
    texts = pair_prompts(4, 0)
    store.add_prompt_pairs(PromptPair("", project.id, text.unsafe, text.safe, seed=i) for i, text in enumerate(texts))
    bundle = load_bundle("toybox", device="cpu", toybox=tiny_folder)
    generator = torch.Generator().manual_seed(0)
    for parameter in attach_lora(bundle, rank=1, alpha=1.0, targets=["to_q", "to_v"], seed=0):
        parameter.data = torch.randn(parameter.shape, generator=generator)
    path = settings.checkpoints / "adapter.safetensors"
    sha256 = save_delta(lora_delta(bundle), path)
    detach(bundle)
    job = submit(store, settings, "pairs", project.id, {})
    store.update_job(job.id, state="done")
    store.add_checkpoint(Checkpoint("", project.id, job.id, "duo", "DUO", str(path), sha256, "lora"))
    yield store, settings, project
    store.close()


def context_of(made: tuple[Store, Settings, Project], kind: Any, report: Any = silent, **config: Any) -> JobContext:
    store, settings, project = made
    job = submit(store, settings, kind, project.id, config)
    return JobContext(store, settings, job, job.config, report)


def trials_of(context: JobContext) -> dict[tuple[str, str], Trial]:
    found = context.store.list_trials(context.project.id, context.job.id)
    return {(trial.victim_name, trial.condition): trial for trial in found}


# Quantising and samplers


def test_int8_moves_no_weight_by_more_than_half_a_step(tiny_bundle: ModelBundle) -> None:
    weight = torch.randn(3, 4, 2, 2, generator=torch.Generator().manual_seed(0)) * torch.tensor([1.0, 10.0, 0.0]).view(
        3, 1, 1, 1
    )
    rounded = int8_rounded(weight)
    steps = weight.flatten(1).abs().amax(dim=1) / 127
    assert ((rounded - weight).abs().flatten(1).amax(dim=1) <= steps / 2 + 1e-6).all()
    for channel in rounded.flatten(1):
        assert len(channel.unique()) <= 255
    layer = tiny_bundle.denoiser.conv_in
    before = layer.weight.data
    kept = before.clone()
    with int8_weights(tiny_bundle):
        assert not torch.equal(layer.weight, kept)
        assert torch.equal(layer.weight, int8_rounded(kept))
    assert layer.weight.data_ptr() == before.data_ptr()
    assert torch.equal(layer.weight, kept)


def test_int8_rounds_a_text_encoder_that_an_adapter_changed(tiny_bundle: ModelBundle) -> None:
    name = "encoder.layers.0.mlp.fc1.weight"
    weights = dict(tiny_bundle.text_encoder.named_parameters())
    (full,) = (one for one in weights if one.endswith(name))
    delta = WeightDelta("weights", {full: torch.full_like(weights[full], 0.01)}, {"part": "text_encoder"})
    with int8_weights(tiny_bundle):
        original = tiny_bundle.encode_prompt([""])
    with applied(tiny_bundle, delta):
        kept, before = weights[full].clone(), tiny_bundle.encode_prompt([""])
        with int8_weights(tiny_bundle):
            assert torch.equal(weights[full], int8_rounded(kept))
            assert not torch.equal(tiny_bundle.encode_prompt([""]), before)
        assert torch.equal(tiny_bundle.encode_prompt([""]), before)
    assert torch.equal(tiny_bundle.encode_prompt([""]), original)


def test_samplers_start_from_the_same_noise_and_agree_in_the_limit(tiny_bundle: ModelBundle) -> None:
    prompts, seeds = ["a knight"], [3]
    exact = tiny_bundle.generate(prompts, seeds, steps=40, guidance_scale=1.0).latents
    few = tiny_bundle.generate(prompts, seeds, steps=4, guidance_scale=1.0).latents
    for name in SAMPLERS:
        with sampled_by(tiny_bundle, name):
            fine = tiny_bundle.generate(prompts, seeds, steps=40, guidance_scale=1.0).latents
            coarse = tiny_bundle.generate(prompts, seeds, steps=4, guidance_scale=1.0).latents
        assert (fine - exact).norm() < 0.15 * exact.norm(), name
        assert name == "ddim" or not torch.equal(coarse, few)
    assert torch.equal(tiny_bundle.generate(prompts, seeds, steps=4, guidance_scale=1.0).latents, few)
    with pytest.raises(ValueError, match="There is no sampler 'x'"), sampled_by(tiny_bundle, "x"):
        pass


def test_inpainting_keeps_what_it_is_told_to(tiny_bundle: ModelBundle) -> None:
    known = tiny_bundle.generate(["a knight"], [3], steps=2).latents
    kept = torch.zeros(tiny_bundle.latent_shape[1:], dtype=torch.bool)
    kept[:, :4] = True
    drawn = tiny_bundle.generate(["a gardener"], [4], steps=2, init_latents=known, kept=kept).latents
    assert torch.equal(drawn[..., :4], known[..., :4])
    assert not torch.allclose(drawn[..., 4:], known[..., 4:])


# Relearning


def test_relearning_lowers_the_loss_ends_when_it_is_back_and_leaves_no_trace(tiny_bundle: ModelBundle) -> None:
    latents = torch.randn(2, *tiny_bundle.latent_shape, generator=torch.Generator().manual_seed(1))
    lesson, embeds = Lesson(latents, ["a knight", "a pirate"]), tiny_bundle.encode_prompt(["a knight", "a pirate"])
    before = {name: value.clone() for name, value in tiny_bundle.denoiser.state_dict().items()}
    losses: list[float] = []
    asked: list[int] = []

    def measure(step: int) -> bool:
        asked.append(step)
        with torch.no_grad():
            losses.append(float(denoising_loss(tiny_bundle, latents, embeds, 64, torch.Generator().manual_seed(5))))
        return step == 12

    kwargs = {"rate": 3e-3, "batch_size": 4, "seed": 0}
    assert relearn(tiny_bundle, lesson, [1, 12, 40], measure, silent, **kwargs) == 12  # type: ignore[arg-type]
    assert asked == [1, 12]
    assert losses[1] < losses[0]
    assert all(torch.equal(value, before[name]) for name, value in tiny_bundle.denoiser.state_dict().items())
    assert relearn(tiny_bundle, lesson, [1], lambda step: False, silent, **kwargs) is None  # type: ignore[arg-type]


# The job


@pytest.fixture(scope="module")
def whole(made: tuple[Store, Settings, Project]) -> JobContext:
    context = context_of(made, "stress", **SMALL)
    stress(context)
    return context


def test_every_condition_has_a_row_for_every_model(whole: JobContext) -> None:
    trials = trials_of(whole)
    conditions = ["plain", "int8", "sampler euler", "guidance 2", "img2img 0.5", "inpaint 1"]
    for name in ("Original", "DUO", "Oracle"):
        assert all(trials[name, condition].n == 2 for condition in conditions)
    assert trials["DUO", "adapter 0.5"].n == 2
    assert ("Original", "adapter 0.5") not in trials
    assert trials["DUO", "adapter 0"].found == trials["Original", "plain"].found
    (adapter,) = whole.store.list_checkpoints(whole.project.id)
    assert trials["DUO", "plain"].victim_sha256 == adapter.sha256
    assert whole.store.get_job(whole.job.id).config["victims"] == [adapter.id]
    listed = list(trials.values())
    assert [line.key for line in lines_of(listed)][:4] == ["plain", "adapter 0.5", "adapter 0", "int8"]
    assert trials_csv(listed).splitlines()[0].startswith("group,condition,title,model,model_sha256,found,n,rate")


def test_relearning_goes_on_until_it_is_back(whole: JobContext) -> None:
    trials = trials_of(whole)
    work = Stress(whole)
    for name in ("Original", "DUO", "Oracle"):
        plain = trials[name, "plain"]
        for course in ("relearn 2", "benign 2"):
            steps = [trials.get((name, f"{course}, step {step}")) for step in (1, 2)]
            if work._is_back(plain.found, plain.n):
                assert steps == [None, None], "it was never gone"
            else:
                assert steps[0] is not None
                assert (steps[1] is None) == work._is_back(steps[0].found, steps[0].n)
    for one in relearned_of(list(trials.values())):
        assert set(one.steps.values()) <= {0, 1, 2, None}


@pytest.mark.slow
def test_a_stopped_job_goes_on_at_its_row_and_draws_nothing_twice(
    made: tuple[Store, Settings, Project], whole: JobContext, monkeypatch: pytest.MonkeyPatch
) -> None:
    def stop(step: int, total: int, message: str = "", **values: float) -> None:
        if message == "DUO: Guidance 2":
            raise Stopped

    context = context_of(made, "stress", stop, **SMALL)
    with pytest.raises(Stopped):
        stress(context)
    kept = trials_of(context)
    assert ("DUO", "sampler euler") in kept
    assert ("DUO", "guidance 2") not in kept
    said: list[str] = []
    stress(replace(context, report=lambda step, total, message="", **_: said.append(message)))
    assert not any(message == "DUO: Sampler Euler" for message in said)
    after = trials_of(context)
    assert {key: trial.id for key, trial in after.items() if key in kept} == {k: t.id for k, t in kept.items()}
    counts = {key: (trial.found, trial.n) for key, trial in after.items()}
    assert counts == {key: (trial.found, trial.n) for key, trial in trials_of(whole).items()}


def test_a_job_without_a_trained_model_is_refused(made: tuple[Store, Settings, Project]) -> None:
    with pytest.raises(WorkflowError, match="No trained model was chosen"):
        stress(context_of(made, "stress", **SMALL, victims=["original"]))


# Transfer


def test_found_prompts_are_drawn_by_others_and_the_diagonal_by_nobody(
    made: tuple[Store, Settings, Project], monkeypatch: pytest.MonkeyPatch
) -> None:
    store, _, project = made
    values = {"refinements": 1}
    attacked = context_of(
        made, "attack", attack="text_free_inversion", n=3, fresh=2, steps=2, values=values, control=False
    )
    attack(attacked)
    context = context_of(made, "transfer", models=["original", *[c.id for c in store.list_checkpoints(project.id)]],
                         working=False)  # fmt: skip
    module = sys.modules[fresh_seed.__module__]
    drawn: list[tuple[Any, list[int]]] = []

    def counting(bundle: Any, inputs: Any, seeds: list[int], sampling: Any) -> Any:
        drawn.append((inputs, seeds))
        return draw(bundle, inputs, seeds, sampling)

    draw = module.draw  # type: ignore[attr-defined]
    monkeypatch.setattr(module, "draw", counting)
    transfer(context)
    rows = [r for r in store.list_attack_runs(project.id, attacked.job.id) if r.role == "attack"]
    trials = trials_of(context)
    victim = rows[0].victim
    assert trials["DUO", victim].found == sum(row.fresh_first for row in rows)
    assert trials["Original", victim].n == len(rows) == 3
    ((inputs, seeds),) = drawn  # by the original alone
    assert seeds == [_question(attacked, row).fresh[0] for row in rows]
    assert all(one.start_latents is not None for one in inputs)
    assert store.get_job(context.job.id).config["attack_job"] == attacked.job.id
    transfer(context)
    assert len(drawn) == 1, "what has a row is not drawn again"


def _question(context: JobContext, run: AttackRun) -> Any:
    from studio.workflow.attack import Attacker

    return next(q for q in Attacker(context).questions if (q.prompt, q.seed) == (run.prompt, run.seed))


def test_nothing_to_transfer_is_said(made: tuple[Store, Settings, Project]) -> None:
    with pytest.raises(WorkflowError, match="There is no attack 'x'"):
        transfer(context_of(made, "transfer", attack_job="x"))
