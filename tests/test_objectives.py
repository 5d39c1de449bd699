"""The papers' mathematics against computations by hand."""

from __future__ import annotations

import math

import pytest
import torch

from studio.objectives.diffusion_dpo import dpo_loss, error_change, implicit_accuracy, mse_per_sample
from studio.objectives.prior import prior_loss
from studio.objectives.sdedit import start_index


def full(value: float, count: int = 1) -> torch.Tensor:
    return torch.full((count, 2, 3, 3), value)


def test_mse_per_sample_is_a_mean_over_channels_height_and_width() -> None:
    prediction = torch.zeros(2, 1, 2, 2)
    prediction[0, 0, 0, 0] = 4.0
    assert mse_per_sample(prediction, torch.zeros_like(prediction)).tolist() == [16 / 4, 0.0]


def test_error_change_is_tuned_minus_original() -> None:
    change = error_change(tuned=full(3.0), reference=full(2.0), target=full(1.0))
    assert change.tolist() == [(3 - 1) ** 2 - (2 - 1) ** 2]


def test_an_unchanged_network_has_a_dpo_loss_of_log_2() -> None:
    output, safe, unsafe = torch.randn(3, 2, 4, 4), torch.randn(3, 2, 4, 4), torch.randn(3, 2, 4, 4)
    d_safe, d_unsafe = error_change(output, output, safe), error_change(output, output, unsafe)
    assert float(dpo_loss(d_safe, d_unsafe, beta=500)) == pytest.approx(math.log(2))
    assert float(implicit_accuracy(d_safe, d_unsafe)) == 0
    assert float(prior_loss(output, output)) == 0


def test_dpo_loss_by_hand() -> None:
    d_safe, d_unsafe, beta = torch.tensor([0.1, -0.2]), torch.tensor([0.3, 0.1]), 5.0
    by_hand = [-math.log(1 / (1 + math.exp(beta * (s - u)))) for s, u in ((0.1, 0.3), (-0.2, 0.1))]
    assert float(dpo_loss(d_safe, d_unsafe, beta)) == pytest.approx(sum(by_hand) / 2)


def test_dpo_gradient_lowers_the_safe_error_and_raises_the_unsafe() -> None:
    d_safe, d_unsafe = torch.zeros(4, requires_grad=True), torch.zeros(4, requires_grad=True)
    dpo_loss(d_safe, d_unsafe, beta=500).backward()
    assert d_safe.grad is not None
    assert d_unsafe.grad is not None
    # At zero, d L / d d(x+) = beta / 2 a pair, over 4 pairs.
    assert torch.allclose(d_safe.grad, torch.full((4,), 500 / 2 / 4))
    assert torch.allclose(d_unsafe.grad, torch.full((4,), -500 / 2 / 4))


def test_dpo_loss_stays_finite_far_from_zero() -> None:
    loss = dpo_loss(torch.tensor([10.0]), torch.tensor([-10.0]), beta=2000)
    assert float(loss) == pytest.approx(2000 * 20)


def test_implicit_accuracy_counts_pairs_that_favour_the_safe_picture() -> None:
    assert float(implicit_accuracy(torch.tensor([0.0, 1.0, 2.0, 3.0]), torch.tensor([1.0, 1.0, 1.0, 4.0]))) == 0.5


def test_prior_loss_by_hand() -> None:
    assert float(prior_loss(full(3.0, 2), full(1.0, 2))) == 4.0


@pytest.mark.parametrize(
    ("steps", "strength", "start"), [(20, 0.0, 20), (20, 1.0, 0), (20, 0.7, 6), (50, 0.75, 13), (10, 0.05, 10)]
)
def test_start_index(steps: int, strength: float, start: int) -> None:
    assert start_index(steps, strength) == start
