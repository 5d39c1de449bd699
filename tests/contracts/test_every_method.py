"""What holds for every unlearning method. A new one is tested by being listed in `METHODS`."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest
import torch
from diffusers import UNet2DConditionModel

from models.adapters import WeightDelta, applied, load_delta, save_delta
from models.bundle import ModelBundle
from models.families import FAMILIES
from models.specs import FamilyName
from models.transport import METADATA as TRANSPORT
from studio.method_configs import METHOD_CONFIGS
from studio.methods import METHODS, get_method
from studio.methods.base import Stopped, TrainingPairs, UnlearningMethod, silent
from studio.methods.checks import check_family
from studio.methods.training import TrainingError
from tests.conftest import make_tiny_bundle
from tests.tiny_families import make_family_bundle

SMALL = {
    "steps": 3,
    "batch_size": 2,
    "learning_rate": 1e-3,
    "save_every": 2,
    "rank": 2,
    "prompts": ["a sword", "a knight"],
    "concepts": ["sword", "knight"],
    "rounds": 2,
    "pictures": 2,
    "fisher_samples": 3,
    "fisher_batch": 2,
    "template": "a {}",
    "trajectories": 2,
    "sampling_steps": 2,
    "retain_prompts": ["a rose"],
    "retain_batch": 2,
    "retain_trajectories": 1,
    "plain_steps": 1,
    "attack_steps": 2,
    "saliency_samples": 3,
}

TRAINED = [method for method in METHODS if "steps" in method.Config.model_fields]
SOLVED = [method for method in METHODS if method not in TRAINED]  # in closed form: no steps, no seed, nothing saved

every_method = pytest.mark.parametrize("method", METHODS, ids=lambda method: method.name)
every_trained_method = pytest.mark.parametrize("method", TRAINED, ids=lambda method: method.name)
every_solved_method = pytest.mark.parametrize("method", SOLVED, ids=lambda method: method.name)


def small_config(method: UnlearningMethod, **changes: Any) -> Any:
    """The method's configuration, with as little work as its fields allow."""
    return method.Config(
        **{name: value for name, value in SMALL.items() if name in method.Config.model_fields}, **changes
    )


@pytest.fixture
def pairs() -> TrainingPairs:
    latents = torch.randn(2, 4, 8, 8, 8, generator=torch.Generator().manual_seed(0))
    return TrainingPairs(latents[0], latents[1], ["a knight with a sword"] * 4, ["a gardener with a flower"] * 4)


def weights(bundle: ModelBundle, part: str = "") -> dict[str, torch.Tensor]:
    network = bundle.network(part or bundle.family.denoiser)
    return {name: value.clone() for name, value in network.state_dict().items()}


def as_weights(delta: WeightDelta) -> WeightDelta:
    """What another program's LoRA loader makes of a delta: it is added to the weights."""
    return replace(delta, metadata={key: value for key, value in delta.metadata.items() if key != TRANSPORT})


def test_every_configured_method_is_registered_under_its_name() -> None:
    assert [method.name for method in METHODS] == list(METHOD_CONFIGS)
    for method in METHODS:
        assert get_method(method.name) is method
        assert method.Config is METHOD_CONFIGS[method.name]


@every_method
def test_names_its_paper_with_year_and_link(method: UnlearningMethod) -> None:
    assert method.title
    assert "https://" in method.paper
    assert any(str(year) in method.paper for year in range(2020, 2040))


@every_method
def test_gives_the_bundle_back_as_it_was(
    method: UnlearningMethod, tiny_bundle: ModelBundle, pairs: TrainingPairs
) -> None:
    parts = (tiny_bundle.denoiser, tiny_bundle.vae, tiny_bundle.text_encoder)
    before = [{name: value.clone() for name, value in part.state_dict().items()} for part in parts]
    modules = [id(module) for module in tiny_bundle.denoiser.modules()]
    method.fit(tiny_bundle, pairs, small_config(method), silent)
    for part, state in zip(parts, before, strict=True):
        assert part.state_dict().keys() == state.keys()
        assert all(torch.equal(value, state[name]) for name, value in part.state_dict().items())
        assert not any(parameter.requires_grad for parameter in part.parameters())
        assert all(parameter.grad is None for parameter in part.parameters())
        assert not part.training
    assert [id(module) for module in tiny_bundle.denoiser.modules()] == modules
    assert not any(module._forward_hooks for module in tiny_bundle.denoiser.modules())
    assert tiny_bundle.on_sampling == tiny_bundle.originals == []


@every_method
def test_changes_only_the_layers_it_declares(
    method: UnlearningMethod, tiny_bundle: ModelBundle, pairs: TrainingPairs
) -> None:
    config = small_config(method)
    declared = set(method.changes(tiny_bundle, config))
    delta = method.fit(tiny_bundle, pairs, config, silent)
    before = {part: weights(tiny_bundle, part) for part in ("unet", "text_encoder")}
    assert declared
    assert declared <= before[delta.part].keys()
    with applied(tiny_bundle, as_weights(delta)):
        changed = {
            (part, name)
            for part in before
            for name, value in weights(tiny_bundle, part).items()
            if not torch.equal(value, before[part][name])
        }
    assert changed
    assert changed <= {(delta.part, name) for name in declared}


@every_method
def test_says_whether_it_uses_pairs(method: UnlearningMethod, tiny_bundle: ModelBundle, pairs: TrainingPairs) -> None:
    none = TrainingPairs(pairs.unsafe_latents[:0], pairs.safe_latents[:0])
    if method.uses_pairs:
        with pytest.raises(TrainingError, match="0 accepted pairs"):
            method.fit(tiny_bundle, none, small_config(method), silent)
    else:
        with_pairs, without = (method.fit(tiny_bundle, p, small_config(method), silent) for p in (pairs, none))
        assert all(torch.equal(with_pairs.tensors[key], value) for key, value in without.tensors.items())


@every_method
def test_delta_survives_its_file(
    method: UnlearningMethod, tiny_bundle: ModelBundle, pairs: TrainingPairs, tmp_path: Path
) -> None:
    delta = method.fit(tiny_bundle, pairs, small_config(method), silent)
    save_delta(delta, tmp_path / "adapter.safetensors")
    loaded = load_delta(tmp_path / "adapter.safetensors")
    assert loaded.metadata["method"] == method.name
    assert loaded.metadata["checkpoint"] == tiny_bundle.spec.checkpoint
    assert method.Config.model_validate_json(loaded.metadata["config"]) == small_config(method)
    assert loaded.part == delta.part
    with applied(tiny_bundle, as_weights(delta)):
        before = weights(tiny_bundle, delta.part)
    with applied(tiny_bundle, as_weights(loaded)):
        assert all(torch.equal(value, before[name]) for name, value in weights(tiny_bundle, delta.part).items())


def sd2_bundle(dtype: torch.dtype) -> ModelBundle:
    """The tiny model as Stable Diffusion 2 differs: velocity, linear projections, attention in float32."""
    bundle = make_tiny_bundle("v_prediction", dtype=dtype)
    config = {**bundle.denoiser.config, "use_linear_projection": True, "upcast_attention": True}
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(0)
        unet = UNet2DConditionModel.from_config(config)
    return replace(bundle, denoiser=unet, originals=[], on_sampling=[])


@every_method
@pytest.mark.parametrize("dtype", [torch.float32, torch.bfloat16], ids=["float32", "bfloat16"])
def test_works_on_stable_diffusion_2_in_either_precision(
    method: UnlearningMethod, pairs: TrainingPairs, dtype: torch.dtype
) -> None:
    bundle = sd2_bundle(dtype)
    before = {part: weights(bundle, part) for part in ("unet", "text_encoder")}
    delta = method.fit(bundle, pairs, small_config(method), silent)
    assert {tensor.dtype for tensor in delta.tensors.values()} == {torch.float32}
    assert all(torch.isfinite(tensor).all() for tensor in delta.tensors.values())
    with applied(bundle, delta):
        assert torch.isfinite(bundle.generate(["a sword"], [0], steps=2).latents).all()
    for part, state in before.items():
        after = weights(bundle, part)
        assert all(torch.equal(value, state[name]) and value.dtype == dtype for name, value in after.items())


@every_method
@pytest.mark.parametrize("family", [family.name for family in FAMILIES])
def test_works_on_each_family_that_it_is_defined_for_and_says_why_not_elsewhere(
    method: UnlearningMethod, family: FamilyName
) -> None:
    bundle = make_family_bundle(family)
    latents = torch.randn(2, 2, *bundle.latent_shape, generator=torch.Generator().manual_seed(0))
    pairs = TrainingPairs(latents[0], latents[1], ["a knight with a sword"] * 2, ["a cook"] * 2)
    if family not in method.families:
        with pytest.raises(TrainingError, match=f"{method.title} is not defined for {bundle.family.title}, because it"):
            check_family(method, bundle)
        return
    check_family(method, bundle)
    delta = method.fit(bundle, pairs, small_config(method), silent)
    assert all(torch.isfinite(tensor).all() for tensor in delta.tensors.values())
    assert any(tensor.abs().max() > 0 for tensor in delta.tensors.values())
    plain = bundle.generate(["a sword"], [0], steps=2).latents
    with applied(bundle, delta):
        assert not torch.equal(bundle.generate(["a sword"], [0], steps=2).latents, plain)
    assert torch.equal(bundle.generate(["a sword"], [0], steps=2).latents, plain)


@every_trained_method
def test_reports_every_step_with_its_numbers(
    method: UnlearningMethod, tiny_bundle: ModelBundle, pairs: TrainingPairs
) -> None:
    told: list[tuple[int, int, str, dict[str, float]]] = []
    method.fit(tiny_bundle, pairs, small_config(method), lambda *progress, **values: told.append((*progress, values)))
    steps = [step for step, _, _, values in told if values]
    assert steps == [1, 2, 3]
    assert {total for _, total, _, _ in told} == {3}
    assert all(message for _, _, message, _ in told)
    for _, _, _, values in told:
        assert not values or {"loss", "grad_norm"} <= values.keys()
        assert all(isinstance(value, float) for value in values.values())


@every_trained_method
@pytest.mark.parametrize("stop_after", [1, 2], ids=["between-saves", "at-a-save"])
def test_stop_and_resume_give_the_uninterrupted_weights(
    method: UnlearningMethod,
    make_bundle: Callable[..., ModelBundle],
    pairs: TrainingPairs,
    tmp_path: Path,
    stop_after: int,
) -> None:
    config = small_config(method)
    bundle = make_bundle()
    before = weights(bundle)
    whole = method.fit(bundle, pairs, config, silent)

    def stop(step: int, total: int, message: str = "", **values: float) -> None:
        if step == stop_after:
            raise Stopped

    with pytest.raises(Stopped):
        method.fit(bundle, pairs, config, stop, tmp_path)
    assert all(torch.equal(value, before[name]) for name, value in bundle.denoiser.state_dict().items())
    done: list[int] = []
    resumed = method.fit(make_bundle(), pairs, config, lambda step, *_, **__: done.append(step), tmp_path)
    assert [step for step in done if step] == list(range(stop_after + 1, 4))
    assert all(torch.equal(resumed.tensors[key], value) for key, value in whole.tensors.items())


@every_trained_method
def test_a_seed_is_a_run(method: UnlearningMethod, tiny_bundle: ModelBundle, pairs: TrainingPairs) -> None:
    torch.manual_seed(1)
    first = method.fit(tiny_bundle, pairs, small_config(method, seed=1), silent).tensors
    torch.manual_seed(2)
    again = method.fit(tiny_bundle, pairs, small_config(method, seed=1), silent).tensors
    other = method.fit(tiny_bundle, pairs, small_config(method, seed=2), silent).tensors
    assert all(torch.equal(first[key], again[key]) for key in first)
    assert any(not torch.equal(first[key], other[key]) for key in first)


@every_solved_method
def test_a_solution_is_told_of_stops_when_asked_and_is_always_the_same(
    method: UnlearningMethod, tiny_bundle: ModelBundle, pairs: TrainingPairs
) -> None:
    told: list[tuple[int, int, str]] = []
    first = method.fit(tiny_bundle, pairs, small_config(method), lambda *progress, **_: told.append(progress))
    assert [step for step, _, _ in told] == list(range(told[0][1] + 1))
    assert all(message for _, _, message in told)
    before = weights(tiny_bundle)
    for stopped_at in range(len(told)):

        def stop(step: int, total: int, message: str = "", at: int = stopped_at, **values: float) -> None:
            if step == at:
                raise Stopped

        with pytest.raises(Stopped):
            method.fit(tiny_bundle, pairs, small_config(method), stop)
    assert all(torch.equal(value, before[name]) for name, value in weights(tiny_bundle).items())
    torch.manual_seed(2)
    again = method.fit(tiny_bundle, pairs, small_config(method), silent)
    assert all(torch.equal(again.tensors[key], value) for key, value in first.tensors.items())
