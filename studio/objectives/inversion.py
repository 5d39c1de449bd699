"""DDIM backwards: the noise from which a model draws a given picture."""

from __future__ import annotations

from collections.abc import Callable

import torch


def epsilon_of(output: torch.Tensor, latents: torch.Tensor, abar: torch.Tensor, prediction_type: str) -> torch.Tensor:
    """The noise that a network's output [B, C, h, w] at x_t means; abar of t is a scalar."""
    if prediction_type == "epsilon":
        return output
    return abar.sqrt() * output + (1 - abar).sqrt() * latents  # eps = sqrt(abar) v + sqrt(1 - abar) x_t


def ddim_move(latents: torch.Tensor, epsilon: torch.Tensor, here: torch.Tensor, there: torch.Tensor) -> torch.Tensor:
    """Latents moved along eps from noise level abar `here` to `there` (Song 2020, arXiv:2010.02502, equation 12).

    With eps of the point that is left it is a step of sampling; with eps of the point that is reached, its inverse.
    """
    clean = (latents - (1 - here).sqrt() * epsilon) / here.sqrt()
    return there.sqrt() * clean + (1 - there).sqrt() * epsilon


def invert(
    latents: torch.Tensor,
    predict: Callable[[torch.Tensor, int], torch.Tensor],
    timesteps: torch.Tensor,
    abars: torch.Tensor,
    prediction_type: str,
    refinements: int,
) -> torch.Tensor:
    """Start latents whose DDIM picture is `latents` [B, C, h, w], up to what `refinements` leave.

    A step's inverse needs eps of a point not yet known: it is found by fixed-point iteration from the point at hand,
    one network call an iteration. `predict(x, t)` is the raw output; timesteps [S] descending; abars [S + 1], before
    the first step and after each.
    """
    for index in range(len(timesteps) - 1, -1, -1):
        noisier, cleaner = abars[index], abars[index + 1]
        guess = latents
        for _ in range(1 + refinements):
            output = predict(guess, int(timesteps[index]))
            guess = ddim_move(latents, epsilon_of(output, guess, noisier, prediction_type), cleaner, noisier)
        latents = guess
    return latents
