"""Adapters as one: the sum against the updates added by hand, and the job, the verb and what is refused."""

from __future__ import annotations

import io
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest
import torch
from rich.console import Console

from models.adapters import applied, apply, attach_lora, detach, load_delta, lora_delta, remove, save_delta
from models.bundle import ModelBundle
from models.compose import ComposeError, Part, compose
from models.deltas import WeightDelta
from models.fingerprint import FINGERPRINT
from models.transport import transport_metadata
from studio import cli
from studio.cli.options import CommandError
from studio.cli.progress import WorkProgress
from studio.configs import EvaluateConfig
from studio.jobs import Runner, submit
from studio.records import Checkpoint, Job, JobKind, Project
from studio.settings import Settings
from studio.store import Store
from studio.ui.activity import job_options
from studio.workflow import run_job
from studio.workflow.compose import compose_adapters
from studio.workflow.contestants import contestants_of
from tests.conftest import make_tiny_bundle
from tests.tiny_families import make_family_bundle
from tests.workflow_data import context_of


def lora(bundle: ModelBundle, layers: str, rank: int, alpha: float, seed: int) -> WeightDelta:
    """A LoRA with every value set at random."""
    generator = torch.Generator().manual_seed(seed)
    for parameter in attach_lora(bundle, rank=rank, alpha=alpha, targets=bundle.family.lora_targets[layers], seed=seed):
        parameter.data += 0.1 * torch.randn(parameter.shape, generator=generator)
    delta = lora_delta(bundle, {"method": "duo", "seed": str(seed)})
    detach(bundle)
    return delta


def edited(bundle: ModelBundle, seed: int) -> WeightDelta:
    """Weights of cross-attention, changed at random."""
    generator = torch.Generator().manual_seed(seed)
    names = [(name, p) for name, p in bundle.denoiser.named_parameters() if ".attn2.to_v." in name]
    return WeightDelta("weights", {name: torch.randn(p.shape, generator=generator) for name, p in names}, {})


def by_hand(parts: list[tuple[WeightDelta, float]]) -> dict[str, torch.Tensor]:
    """Sum of weight * alpha / r * B A, and of weight * change, in float64."""
    total: dict[str, torch.Tensor] = {}
    for delta, weight in parts:
        for key, value in delta.tensors.items():
            if delta.kind == "weights":
                name, change = key, value.double()
            elif key.endswith(".lora_A.weight"):
                layer = key.removesuffix(".lora_A.weight")
                up = delta.tensors[f"{layer}.lora_B.weight"].double()
                scale = float(delta.metadata["alpha"]) / float(delta.metadata["rank"])
                change = torch.einsum("or...,ri...->oi...", up, value.double()) * scale
                name = f"{layer}.weight"
            else:
                continue
            total[name] = total.get(name, torch.zeros_like(change)) + weight * change
    return total


def changes_of(bundle: ModelBundle, delta: WeightDelta) -> dict[str, torch.Tensor]:
    """What applying a delta really adds to the network's weights."""
    before = {name: p.detach().clone() for name, p in bundle.denoiser.named_parameters()}
    with applied(bundle, delta):
        after = {name: p.detach().double() - before[name].double() for name, p in bundle.denoiser.named_parameters()}
    return {name: change for name, change in after.items() if change.any()}


def assert_is_the_sum(bundle: ModelBundle, made: WeightDelta, parts: list[tuple[WeightDelta, float]]) -> None:
    wanted = by_hand(parts)
    found = changes_of(bundle, made)
    assert found.keys() == wanted.keys()
    for name, change in wanted.items():
        assert torch.allclose(found[name], change, rtol=1e-6, atol=1e-6), name


def test_loras_of_other_ranks_and_alphas_add_exactly(tiny_bundle: ModelBundle, tmp_path: Path) -> None:
    one = lora(tiny_bundle, "self-attention", rank=3, alpha=5.0, seed=1)
    two = lora(tiny_bundle, "attention", rank=4, alpha=2.0, seed=2)
    three = lora(tiny_bundle, "all", rank=2, alpha=2.0, seed=3)  # with convolutions
    parts = [(one, 1.0), (two, 0.3), (three, -1.5)]
    made = compose([Part(f"part {n}", delta, weight) for n, (delta, weight) in enumerate(parts)])
    assert (made.kind, made.metadata["rank"], made.metadata["alpha"]) == ("lora", "9", "9.0")
    assert_is_the_sum(tiny_bundle, made, parts)
    save_delta(made, tmp_path / "sum.safetensors")
    assert_is_the_sum(tiny_bundle, load_delta(tmp_path / "sum.safetensors"), parts)


@pytest.mark.parametrize("family", ["sd3", "flux"])
def test_adapters_of_a_transformer_add_too(family: str, tmp_path: Path) -> None:
    bundle = make_family_bundle(family)  # type: ignore[arg-type]
    parts = [(lora(bundle, "self-attention", 2, 2.0, 1), 1.0), (lora(bundle, "attention+ff", 3, 6.0, 2), 0.5)]
    made = compose([Part("part", delta, weight) for delta, weight in parts])
    assert made.part == "transformer"
    save_delta(made, tmp_path / "sum.safetensors")
    assert_is_the_sum(bundle, load_delta(tmp_path / "sum.safetensors"), parts)


def test_one_adapter_at_weight_one_is_itself(tiny_bundle: ModelBundle) -> None:
    one = lora(tiny_bundle, "attention", rank=4, alpha=4.0, seed=1)
    made = compose([Part("one", one)])
    assert made.tensors.keys() == one.tensors.keys()
    assert all(torch.equal(made.tensors[key], value) for key, value in one.tensors.items())


def test_edited_weights_add_and_take_loras_along(tiny_bundle: ModelBundle) -> None:
    one, two = edited(tiny_bundle, 1), edited(tiny_bundle, 2)
    three = lora(tiny_bundle, "attention", rank=4, alpha=2.0, seed=3)
    kept = {name: value.clone() for name, value in one.tensors.items()}
    made = compose([Part("one", one, 2.0), Part("two", two, -1.0)])
    assert_is_the_sum(tiny_bundle, made, [(one, 2.0), (two, -1.0)])
    mixed = compose([Part("one", one), Part("three", three, 0.5)])
    assert mixed.kind == "weights"
    assert_is_the_sum(tiny_bundle, mixed, [(one, 1.0), (three, 0.5)])
    assert all(torch.equal(one.tensors[name], value) for name, value in kept.items()), "the parts stay as they were"


def test_the_sum_draws_what_both_draw_together(tiny_bundle: ModelBundle) -> None:
    one = lora(tiny_bundle, "attention", rank=4, alpha=4.0, seed=1)
    two = lora(tiny_bundle, "self-attention", rank=2, alpha=4.0, seed=2)
    apply(tiny_bundle, one)
    apply(tiny_bundle, two, 0.5)
    both = tiny_bundle.generate(["a knight"], [1], steps=3).latents
    remove(tiny_bundle)
    remove(tiny_bundle)
    with applied(tiny_bundle, compose([Part("one", one), Part("two", two, 0.5)])):
        assert torch.allclose(tiny_bundle.generate(["a knight"], [1], steps=3).latents, both, atol=1e-4)


def test_what_all_say_is_kept_and_the_parts_are_named(tiny_bundle: ModelBundle) -> None:
    one, two = (lora(tiny_bundle, "attention", 2, 2.0, seed) for seed in (1, 2))
    known = replace(two, metadata={**two.metadata, FINGERPRINT: "ab" * 32})
    made = compose([Part("one", one, 1.0, "cd" * 32), Part("two", known, 0.5)])
    assert made.metadata["method"] == "duo"
    assert made.metadata[FINGERPRINT] == "ab" * 32
    assert "seed" not in made.metadata
    assert '{"name": "two", "weight": 0.5' in made.metadata["composed"]
    assert "cd" * 32 in made.metadata["composed"]


def refused(kind: str) -> tuple[list[Part], str]:
    bundle = make_tiny_bundle()
    one, two = (lora(bundle, "attention", 2, 2.0, seed) for seed in (1, 2))
    on = [
        replace(delta, metadata={**delta.metadata, FINGERPRINT: base * 32})
        for delta, base in ((one, "ab"), (two, "cd"))
    ]
    key = next(iter(one.tensors))
    narrow = replace(one, tensors={**one.tensors, key: one.tensors[key][:, :-1]})
    follows = replace(two, metadata={**two.metadata, **transport_metadata(["sword"])})
    other = replace(two, metadata={**two.metadata, "part": "transformer"})
    return {
        "nothing": ([], "0 adapters"),
        "zero": ([Part("one", one, 0.0)], "The weight of one is 0"),
        "infinite": ([Part("one", one, float("inf"))], "The weight of one is inf"),
        "base": ([Part("one", on[0]), Part("two", on[1])], "abababababab and two on cdcdcdcdcdcd"),
        "shape": ([Part("one", one), Part("two", narrow)], "two changes .* of shape"),
        "weights": ([Part("one", edited(bundle, 1)), Part("two", _cut(edited(bundle, 2)))], "two changes .* of shape"),
        "transport": ([Part("one", one), Part("two", follows)], "strength of two follows the prompt"),
        "part": ([Part("one", one), Part("two", other)], "one changes the unet and two the transformer"),
    }[kind]


def _cut(delta: WeightDelta) -> WeightDelta:
    return replace(delta, tensors={name: value[:-1] for name, value in delta.tensors.items()})


@pytest.mark.parametrize("kind", ["nothing", "zero", "infinite", "base", "shape", "weights", "transport", "part"])
def test_what_cannot_be_summed_is_refused(kind: str) -> None:
    parts, words = refused(kind)
    with pytest.raises(ComposeError, match=words):
        compose(parts)


# -- the job and the verb ----------------------------------------------------------------------------------------


def add_adapter(store: Store, settings: Settings, project: Project, name: str, seed: int, seconds: float) -> Checkpoint:
    delta = lora(make_tiny_bundle(), "attention", 2, 2.0, seed)
    job = store.create_job(Job("", project.id, "train", {}))
    path = settings.checkpoints / job.id / "adapter.safetensors"
    sha256 = save_delta(delta, path)
    return store.add_checkpoint(Checkpoint("", project.id, job.id, "duo", name, str(path), sha256, "lora", {}, seconds))


def test_the_job_adds_a_model_that_names_its_parts(store: Store, settings: Settings, project: Project) -> None:
    other = store.create_project(replace(project, id="", name="Cane", concept="cane"))
    one = add_adapter(store, settings, project, "one", 1, 60.0)
    two = add_adapter(store, settings, other, "two", 2, 30.0)
    parts = [{"checkpoint_id": one.id, "weight": 1.0}, {"checkpoint_id": two.id, "weight": 0.5}]
    context = context_of(store, settings, project, "compose", {"parts": parts})
    result = compose_adapters(context)
    saved = store.get_checkpoint(result["checkpoint_id"])
    assert (saved.project_id, saved.method, saved.name, saved.kind) == (project.id, "duo", "one + two", "lora")
    assert saved.train_seconds == 90.0
    assert [part["checkpoint_id"] for part in saved.config["composed"]] == [one.id, two.id]
    assert_is_the_sum(
        make_tiny_bundle(),
        load_delta(Path(saved.path)),
        [(load_delta(Path(one.path)), 1.0), (load_delta(Path(two.path)), 0.5)],
    )
    assert compose_adapters(context)["checkpoint_id"] == saved.id, "a job that is run again must not sum twice"
    assert "one + two" in [model.label for model in contestants_of(context, EvaluateConfig())]


def test_adapters_of_other_checkpoints_are_not_summed(store: Store, settings: Settings, project: Project) -> None:
    other = store.create_project(replace(project, id="", name="Own", checkpoint="/models/own"))
    mine, theirs = (add_adapter(store, settings, one, "a", 1, 1.0) for one in (project, other))
    parts = [{"checkpoint_id": one.id} for one in (mine, theirs)]
    with pytest.raises(ComposeError, match="a change of /models/own, but project 'Sword' is about toybox"):
        compose_adapters(context_of(store, settings, project, "compose", {"parts": parts}))


class Ended(Runner):
    """Of which a job has ended when it is looked at."""

    def run_until_done(self, job_id: str, on_change: Any = None) -> Job:
        return self.store.get_job(job_id)


@pytest.mark.parametrize("kind", ["compose", "pairs"])
def test_a_resume_is_advised_only_where_it_can_help(
    kind: JobKind, store: Store, settings: Settings, project: Project
) -> None:
    other = store.create_project(replace(project, id="", name="Own", checkpoint="/models/own"))
    theirs = add_adapter(store, settings, other, "a", 1, 1.0)
    config = {"parts": [{"checkpoint_id": theirs.id}]} if kind == "compose" else {}  # pairs lack prompts, as yet
    job = run_job(submit(store, settings, kind, project.id, config).id, settings)
    assert (job.state, job.refused) == ("failed", kind == "compose")
    with WorkProgress(Console(file=io.StringIO())) as progress, pytest.raises(CommandError) as said:
        progress.follow(Ended(store, settings), job, "Trying")
    assert ("jobs resume" in str(said.value)) is not job.refused
    assert (job.id in [key for _, key in job_options([job])]) is not job.refused
    assert not store.requeue_job(job.id).refused


@pytest.mark.slow
def test_compose_verb(
    store: Store,
    settings: Settings,
    project: Project,
    monkeypatch: pytest.MonkeyPatch,
    capsys: pytest.CaptureFixture[str],
) -> None:
    for name, value in settings.environment().items():
        monkeypatch.setenv(name, value)
    _, two = (add_adapter(store, settings, project, name, 1, 1.0) for name in ("a=b", "two"))
    assert cli.main(["compose", "Sword", "a=b", f"{two.id}=-0.5", "--name", "Both"]) == 0
    saved = store.list_checkpoints(project.id)[-1]
    assert saved.name == "Both"
    assert [part["weight"] for part in saved.config["composed"]] == [1.0, -0.5]
    assert saved.sha256 in capsys.readouterr().out
    for words, said in {
        "three=1": "no trained model 'three'",
        "two=half": "such as two=0.5",
        "two=0": "is '0'",
    }.items():
        assert cli.main(["compose", "Sword", words]) == 2
        assert said in capsys.readouterr().err
    assert store.list_checkpoints(project.id)[-1] == saved
