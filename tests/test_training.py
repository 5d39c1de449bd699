"""The training loop: its steps, its parts, its states, and several processes that train as one."""

from __future__ import annotations

import math
import subprocess
import sys
from pathlib import Path
from typing import Any

import pytest
import torch
from pydantic import ValidationError

from models.adapters import attach_lora, detach
from models.bundle import ModelBundle
from studio.methods.base import Stopped, silent
from studio.methods.duo import Duo, DuoStep
from studio.methods.parallel import Group
from studio.methods.training import (
    STATE_FILE,
    Loop,
    TrainingError,
    draw_rows,
    learning_rate,
    run_name,
    train,
)
from studio.settings import REPOSITORY
from studio.training_configs import DuoConfig
from tests.training_data import make_pairs

SMALL = DuoConfig(steps=4, batch_size=4, rank=2, alpha=2.0, learning_rate=1e-2, beta=50.0, prior_weight=10.0)


# Steps


def parabola(start: float = 4.0) -> tuple[torch.nn.Parameter, Any]:
    weight = torch.nn.Parameter(torch.tensor([start]))
    return weight, lambda generator: ((weight * torch.rand(1, generator=generator)).square().sum(), {})


def test_a_loss_that_is_not_finite_names_step_cause_and_remedy() -> None:
    weight, step = parabola()
    calls = iter(range(10))

    def breaks(generator: torch.Generator) -> tuple[torch.Tensor, dict[str, float]]:
        loss, values = step(generator)
        return loss * (torch.nan if next(calls) == 2 else 1), values

    config = DuoConfig(steps=5, learning_rate=0.25)
    with pytest.raises(TrainingError, match=r"at step 3: loss nan.*learning rate \(0\.25\) is too high.*Lower"):
        train("duo", [weight], breaks, config, silent)
    assert torch.isfinite(weight).all()


def test_weights_broken_by_the_last_step_or_before_a_save_are_no_result(tmp_path: Path) -> None:
    for steps, save_every, told in ((1, 50, "step 1.*No state was saved"), (4, 1, "step 1.*No state was saved")):
        weight, step = parabola()
        config = DuoConfig(steps=steps, save_every=save_every, learning_rate=1.0, weight_decay=1e39)
        with pytest.raises(TrainingError, match=rf"at {told}.*weight decay \(1e\+39\) is too high. Lower them"):
            train("duo", [weight], step, config, silent, tmp_path)
        assert not (tmp_path / STATE_FILE).exists()


@pytest.mark.parametrize("name", ["beta", "prior_weight", "weight_decay", "alpha"])
def test_no_setting_is_infinite(name: str) -> None:
    with pytest.raises(ValidationError, match="finite"):
        DuoConfig.model_validate({name: math.inf})


@pytest.mark.parametrize(("limit", "clipped"), [(0.5, 0.5), (0.0, 8.0)])
def test_gradients_are_clipped_and_the_norm_before_is_reported(limit: float, clipped: float) -> None:
    weight = torch.nn.Parameter(torch.tensor([4.0]))
    norms: list[float] = []
    config = DuoConfig(steps=1, max_grad_norm=limit)
    train("duo", [weight], lambda _: ((weight**2).sum(), {}), config, lambda *_, **v: norms.append(v["grad_norm"]))
    assert norms == [8.0]
    assert weight.grad is not None
    assert float(weight.grad) == pytest.approx(clipped, rel=1e-5)


def test_state_of_another_run_is_refused(tmp_path: Path) -> None:
    weight, step = parabola()
    train("duo", [weight], step, DuoConfig(steps=2, save_every=1), silent, tmp_path)
    for method, config in (
        ("duo", DuoConfig(steps=2, save_every=1, beta=1)),
        ("esd", DuoConfig(steps=2, save_every=1)),
    ):
        with pytest.raises(TrainingError, match=r"another method or configuration\. Delete"):
            train(method, [weight], step, config, silent, tmp_path)


def test_damaged_state_is_refused(tmp_path: Path) -> None:
    (tmp_path / STATE_FILE).write_bytes(b"nonsense")
    weight, step = parabola()
    with pytest.raises(TrainingError, match=r"is damaged.*Delete"):
        train("duo", [weight], step, DuoConfig(steps=1), silent, tmp_path)


def test_state_is_saved_every_few_steps_and_leaves_no_part_files(tmp_path: Path) -> None:
    weight, step = parabola()
    config = DuoConfig(steps=7, save_every=3)
    saved: list[bool] = []
    train("duo", [weight], step, config, lambda *_, **__: saved.append((tmp_path / STATE_FILE).exists()), tmp_path)
    assert saved == [False, False, True, True, True, True, True]
    assert [path.name for path in tmp_path.iterdir()] == [STATE_FILE]


def test_a_run_killed_between_saves_resumes_from_the_last_one(tmp_path: Path) -> None:
    """As kill -9 leaves it: no chance to save at the end."""
    config = DuoConfig(steps=9, save_every=2, learning_rate=0.1)
    whole, step = parabola()
    train("duo", [whole], step, config, silent)
    killed, step = parabola()

    def kill(done: int, total: int, message: str = "", **values: float) -> None:
        if done == 5:
            raise SystemExit

    with pytest.raises(SystemExit):
        train("duo", [killed], step, config, kill, tmp_path)
    steps: list[int] = []
    resumed, step = parabola()
    train("duo", [resumed], step, config, lambda done, *_, **__: steps.append(done), tmp_path)
    assert steps == [5, 6, 7, 8, 9]
    assert torch.equal(resumed, whole)


def test_stop_without_a_state_folder_is_just_a_stop() -> None:
    def stop(*_: object, **__: object) -> None:
        raise Stopped

    weight, step = parabola()
    with pytest.raises(Stopped):
        train("duo", [weight], step, DuoConfig(steps=3), stop)


@pytest.mark.parametrize(("count", "size"), [(6, 4), (3, 8), (1, 1)])
def test_draw_rows_is_even(count: int, size: int) -> None:
    rows = draw_rows(count, size, torch.Generator().manual_seed(0))
    assert len(rows) == size
    times = torch.bincount(rows, minlength=count)
    assert times.max() - times.min() <= 1


def test_the_learning_rate_rises_stays_and_falls() -> None:
    config = DuoConfig(steps=10, learning_rate=1.0, warmup_steps=4)
    assert [learning_rate(config, step) for step in (1, 2, 4, 5, 10)] == [0.25, 0.5, 1.0, 1.0, 1.0]
    linear = config.model_copy(update={"schedule": "linear"})
    assert [learning_rate(linear, step) for step in (4, 7, 10)] == pytest.approx([1.0, 0.5, 0.0])
    cosine = config.model_copy(update={"schedule": "cosine"})
    assert [learning_rate(cosine, step) for step in (4, 7, 10)] == pytest.approx([1.0, 0.5, 0.0])
    assert learning_rate(cosine, 6) == pytest.approx(0.5 * (1 + math.cos(math.pi * 2 / 6)))


def test_the_reported_rate_is_the_optimizers() -> None:
    told: list[float] = []
    weight = torch.nn.Parameter(torch.tensor([4.0]))
    config = DuoConfig(steps=2, warmup_steps=2, learning_rate=0.5, weight_decay=0, max_grad_norm=1e9)
    moves: list[float] = []

    def report(step: int, total: int, message: str = "", **values: float) -> None:
        told.append(values["learning_rate"])
        moves.append(float(weight.detach()))

    train("duo", [weight], lambda _: ((weight * 3.0).sum(), {}), config, report)
    assert told == [0.25, 0.5]
    assert [4.0 - moves[0], moves[0] - moves[1]] == pytest.approx([0.25, 0.5], rel=1e-3)  # Adam's step is the rate


def test_an_exploding_loss_ends_the_run_with_step_cause_and_what_is_kept(tmp_path: Path) -> None:
    weight = torch.nn.Parameter(torch.tensor([1.0]))
    calls = iter(range(100))

    def explodes(_: torch.Generator) -> tuple[torch.Tensor, dict[str, float]]:
        return weight.square().sum() * (1e6 if next(calls) == 6 else 1), {}

    config = DuoConfig(steps=9, save_every=2, learning_rate=1e-3)
    with pytest.raises(TrainingError, match=r"exploded at step 7.*The state of step 6 is kept.*try a third"):
        train("duo", [weight], explodes, config, silent, tmp_path)
    calls = iter(range(100))
    train("duo", [weight], explodes, config.model_copy(update={"explosion": 0.0}), silent)


# Parts of a minibatch


@pytest.mark.parametrize("size", [1, 2, 3])
def test_gradients_of_parts_add_up_to_those_of_the_whole(tiny_bundle: ModelBundle, size: int) -> None:
    whole, in_parts = (gradients_of(tiny_bundle, SMALL, rows_at_once=rows) for rows in (4, size))
    assert whole[1] == pytest.approx(in_parts[1], rel=1e-4, abs=1e-6)
    for one, other in zip(whole[0], in_parts[0], strict=True):
        assert torch.allclose(one, other, rtol=1e-3, atol=1e-7)


def test_gradient_checkpointing_changes_memory_alone(tiny_bundle: ModelBundle) -> None:
    plain = Duo().fit(tiny_bundle, make_pairs(), SMALL, silent)
    recomputed = SMALL.model_copy(update={"gradient_checkpointing": True})
    calls: list[int] = []
    handle = tiny_bundle.denoiser.up_blocks[-1].resnets[0].register_forward_pre_hook(lambda *_: calls.append(1))
    again = Duo().fit(tiny_bundle, make_pairs(), recomputed, silent)
    handle.remove()
    assert not tiny_bundle.denoiser.is_gradient_checkpointing
    assert len(calls) > 2 * SMALL.steps  # tuned, reference, and again on the way back
    for name, tensor in plain.tensors.items():
        assert torch.allclose(again.tensors[name], tensor, atol=1e-6), name


class Hungry:
    """A step that runs out of memory where it is given more than `rows` at once."""

    def __init__(self, weight: torch.nn.Parameter, rows: int) -> None:
        self.weight, self.rows, self.asked = weight, rows, list[int]()

    def draw(self, generator: torch.Generator) -> tuple[torch.Tensor, ...]:
        return (torch.rand(8, generator=generator),)

    def loss(self, drawn: tuple[torch.Tensor, ...]) -> tuple[torch.Tensor, dict[str, torch.Tensor]]:
        self.asked.append(len(drawn[0]))
        if len(drawn[0]) > self.rows:
            raise torch.OutOfMemoryError("CUDA out of memory")
        return (self.weight * drawn[0]).square().mean(), {}


def test_out_of_memory_is_tried_once_more_in_smaller_parts() -> None:
    plenty, little = (torch.nn.Parameter(torch.tensor([4.0])) for _ in range(2))
    config = DuoConfig(steps=3, batch_size=8, learning_rate=0.1)
    train("duo", [plenty], Hungry(plenty, 8), config, silent)
    hungry = Hungry(little, 4)
    train("duo", [little], hungry, config, silent)
    assert hungry.asked == [8, 4, 4, 4, 4, 4, 4]  # the same draw again, and from then on in halves
    assert torch.allclose(plenty, little, atol=1e-6)


def test_out_of_memory_twice_says_what_to_do() -> None:
    weight = torch.nn.Parameter(torch.tensor([4.0]))
    with pytest.raises(TrainingError, match=r"with 4 pairs at once, a second time.*micro_batch_size.*checkpointing"):
        train("duo", [weight], Hungry(weight, 2), DuoConfig(steps=1, batch_size=8), silent)


# The bank of noise


def test_a_bank_gives_the_same_loss_and_asks_the_original_once(tiny_bundle: ModelBundle, tmp_path: Path) -> None:
    config = SMALL.model_copy(update={"noise_bank": 3, "steps": 5})
    passes: list[int] = []
    handle = tiny_bundle.denoiser.register_forward_hook(
        lambda module, args, output: passes.append(len(args[0])) if not torch.is_grad_enabled() else None
    )
    Duo().fit(tiny_bundle, make_pairs(6), config, silent, tmp_path)
    assert sum(passes) == 3 * 6 * 3  # draws, pairs, and safe, unsafe and pure noise; none during the steps
    passes.clear()
    attach_lora(tiny_bundle, rank=2, alpha=2.0, targets=tiny_bundle.family.lora_targets["self-attention"], seed=0)
    step = DuoStep(tiny_bundle, make_pairs(6), config)
    step.fill_bank(silent, tmp_path)
    assert passes == []  # read from the folder
    drawn = step.draw(torch.Generator().manual_seed(3))
    loss, values = step.loss(drawn)
    fresh, fresh_values = step.loss(drawn[:-1])  # without the remembered predictions
    handle.remove()
    detach(tiny_bundle)
    assert float(loss.detach()) == pytest.approx(float(fresh.detach()), abs=1e-4)
    assert float(values["prior"]) == pytest.approx(float(fresh_values["prior"]), abs=1e-9)


def test_every_pair_has_its_own_draws_and_all_of_them_come_up(tiny_bundle: ModelBundle) -> None:
    config = DuoConfig(batch_size=6, noise_bank=3)
    attach_lora(tiny_bundle, rank=2, alpha=2.0, targets=tiny_bundle.family.lora_targets["self-attention"], seed=0)
    step = DuoStep(tiny_bundle, make_pairs(6), config)
    step.fill_bank(silent, None)
    detach(tiny_bundle)
    seen: dict[int, set[float]] = {}
    generator = torch.Generator().manual_seed(0)
    for _ in range(40):
        drawn = step.draw(generator)
        for row, noise in zip(drawn[0].tolist(), drawn[1], strict=True):
            seen.setdefault(row, set()).add(float(noise[0, 0, 0]))
    assert set(seen) == set(range(6))
    assert {len(noises) for noises in seen.values()} == {3}
    assert len(set.union(*seen.values())) == 18


# States


def test_a_state_from_before_a_field_existed_still_fits() -> None:
    """Its defaults are as if there were no such field; other values are another run."""
    assert run_name("duo", DuoConfig()) == run_name("duo", DuoConfig(micro_batch_size=2, gradient_checkpointing=True))
    assert run_name("duo", DuoConfig()) != run_name("duo", DuoConfig(noise_bank=4))
    assert run_name("duo", DuoConfig()) != run_name("duo", DuoConfig(schedule="linear"))
    assert "warmup_steps" not in DuoConfig().model_dump_json(exclude={"warmup_steps"})


# Several processes


def test_a_batch_is_dealt_out_evenly_or_not_at_all() -> None:
    assert [Group(rank, 3).share(6) for rank in range(3)] == [slice(0, 2), slice(2, 4), slice(4, 6)]
    weight = torch.nn.Parameter(torch.tensor([4.0]))
    with pytest.raises(TrainingError, match="A batch of 4 cannot be dealt out to 3 processes; use a multiple"):
        Loop([weight], Hungry(weight, 8), DuoConfig(batch_size=4), Group(0, 3))


TOGETHER = """
import sys
import torch
import torch.distributed as dist
from tests.test_training import double_precision_gradients
from studio.methods.parallel import current_group

rank, size, store, out = int(sys.argv[1]), int(sys.argv[2]), sys.argv[3], sys.argv[4]
torch.set_num_threads(1)
if size > 1:
    dist.init_process_group("gloo", init_method=f"file://{store}", rank=rank, world_size=size)
assert current_group().size == size
torch.save(double_precision_gradients(), f"{out}/{rank}-of-{size}.pt")
"""


def double_precision_gradients() -> list[torch.Tensor]:
    """One step's gradients in this group, in float64."""
    from tests.conftest import make_tiny_bundle

    bundle = make_tiny_bundle(dtype=torch.float64)
    parameters = attach_lora(bundle, rank=2, alpha=2.0, targets=bundle.family.lora_targets["attention"], seed=0)
    generator = torch.Generator().manual_seed(1)
    for parameter in parameters:
        parameter.data = 0.1 * torch.randn(parameter.shape, generator=generator, dtype=torch.float64)
    from studio.methods.parallel import current_group

    loop = Loop(parameters, DuoStep(bundle, make_pairs(6), SMALL), SMALL, current_group())
    loop.gradients()
    loop.group.average_gradients(parameters)
    return [parameter.grad.clone() for parameter in parameters if parameter.grad is not None]


@pytest.mark.slow
def test_two_processes_have_the_gradients_of_one_to_nine_digits(tmp_path: Path) -> None:
    alone = double_precision_gradients()
    children = [
        subprocess.Popen(
            [sys.executable, "-c", TOGETHER, str(rank), "2", str(tmp_path / "store"), str(tmp_path)], cwd=REPOSITORY
        )
        for rank in range(2)
    ]
    assert [child.wait(timeout=300) for child in children] == [0, 0]
    for rank in range(2):
        found = torch.load(tmp_path / f"{rank}-of-2.pt", weights_only=True)
        assert len(found) == len(alone)
        largest = max(float((one - other).abs().max()) for one, other in zip(alone, found, strict=True))
        assert largest < 1e-9
    assert max(float(gradient.abs().max()) for gradient in alone) > 1e-4


# Helpers


def gradients_of(
    bundle: ModelBundle, config: DuoConfig, rows_at_once: int
) -> tuple[list[torch.Tensor], dict[str, float]]:
    targets = bundle.family.lora_targets["attention"]
    parameters = attach_lora(bundle, rank=2, alpha=2.0, targets=targets, seed=0)
    generator = torch.Generator().manual_seed(1)
    for parameter in parameters:
        parameter.data = 0.05 * torch.randn(parameter.shape, generator=generator)
    loop = Loop(parameters, DuoStep(bundle, make_pairs(), config), config, Group())
    loop.rows_at_once = rows_at_once
    values = loop.gradients()
    found = [parameter.grad.clone() for parameter in parameters if parameter.grad is not None]
    detach(bundle)
    return found, values
