"""The forward processes against computations by hand."""

from __future__ import annotations

import math

import pytest
import torch

from models.forward import Diffusion, Flow

ALPHAS = torch.tensor([0.81, 0.36, 0.04])  # square roots 0.9, 0.6, 0.2; of the rest 0.436…, 0.8, 0.98
EPSILON, VELOCITY = Diffusion(ALPHAS), Diffusion(ALPHAS, "v_prediction")


def full(value: float, count: int = 1) -> torch.Tensor:
    return torch.full((count, 2, 3, 3), value)


def test_a_diffusion_takes_each_row_at_its_own_timestep() -> None:
    noisy = EPSILON.noised(full(2.0, 2), full(1.0, 2), torch.tensor([1, 2]))
    assert torch.allclose(noisy[0], full(0.6 * 2 + 0.8 * 1)[0])
    assert torch.allclose(noisy[1], full(0.2 * 2 + math.sqrt(0.96))[0])
    assert EPSILON.last == 2


def test_a_diffusions_target_follows_the_prediction_type() -> None:
    latents, noise, at = full(2.0), full(1.0), torch.tensor([1])
    assert torch.equal(EPSILON.target(latents, noise, at), noise)
    assert torch.allclose(VELOCITY.target(latents, noise, at), full(0.6 * 1 - 0.8 * 2))
    with pytest.raises(ValueError, match=r"'sample'.*epsilon or v_prediction"):
        Diffusion(ALPHAS, "sample")


def test_velocity_and_noisy_latents_give_the_picture_back() -> None:
    latents, noise, at = torch.randn(3, 4, 2, 2), torch.randn(3, 4, 2, 2), torch.tensor([0, 1, 2])
    signal, sigma = ALPHAS.sqrt().view(3, 1, 1, 1), (1 - ALPHAS).sqrt().view(3, 1, 1, 1)
    recovered = signal * VELOCITY.noised(latents, noise, at) - sigma * VELOCITY.target(latents, noise, at)
    assert torch.allclose(recovered, latents, atol=1e-6)


def test_a_flow_goes_straight_from_the_latents_to_pure_noise() -> None:
    flow, latents, noise = Flow(), full(2.0, 3), full(-1.0, 3)
    noisy = flow.noised(latents, noise, torch.tensor([0, 250, flow.last]))
    assert torch.allclose(noisy[0], latents[0])
    assert torch.allclose(noisy[1], full(0.75 * 2 - 0.25)[0])
    assert torch.allclose(noisy[2], noise[0])
    assert torch.allclose(flow.target(latents, noise, torch.tensor([0, 250, 1000])), full(-3.0, 3))
