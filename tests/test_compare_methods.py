"""Any methods' models side by side in Compare: full weights, closed-form edits, LoRAs, and an adapter beside them."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
import torch

from models.adapters import applied, load_delta, save_delta
from models.bundle import ModelBundle
from studio.images import read_image
from studio.inference.messages import ModelChoice, RenderRequest
from studio.inference.renderer import Renderer
from studio.methods import METHODS
from studio.methods.base import TrainingPairs, silent
from studio.settings import Settings
from tests.conftest import make_tiny_bundle
from tests.contracts.test_every_method import small_config
from tests.tiny_toybox import save_tiny_toybox

PROMPTS = ["a knight", "a cook on the beach"]


@pytest.fixture(scope="module")
def bundle() -> ModelBundle:
    return make_tiny_bundle()


@pytest.fixture(scope="module")
def models(bundle: ModelBundle, tmp_path_factory: pytest.TempPathFactory) -> list[ModelChoice]:
    """The original, and a model of every method."""
    folder = tmp_path_factory.mktemp("trained")
    latents = torch.randn(2, 2, 8, 8, 8, generator=torch.Generator().manual_seed(0))
    pairs = TrainingPairs(latents[0], latents[1], ["a knight with a sword"] * 2, ["a cook"] * 2)
    made = [ModelChoice("Original", "toybox")]
    for method in METHODS:
        changes = {"learning_rate": 0.05} if "learning_rate" in method.Config.model_fields else {}
        delta = method.fit(bundle, pairs, small_config(method).model_copy(update=changes), silent)
        path = folder / f"{method.name}.safetensors"
        made.append(ModelChoice(method.title, "toybox", str(path), save_delta(delta, path)))
    return made


def drawn_alone(bundle: ModelBundle, model: ModelChoice) -> np.ndarray:
    delta = None if model.adapter_path is None else load_delta(Path(model.adapter_path))
    with applied(bundle, delta, model.scale):
        return bundle.generate(PROMPTS, [3, 3], steps=3, guidance_scale=4.0).images


@pytest.mark.slow
def test_any_methods_stand_side_by_side(
    settings: Settings, bundle: ModelBundle, models: list[ModelChoice], tmp_path: Path
) -> None:
    """The warm renderer draws each as it is drawn alone, in whatever company and order, and keeps nothing of it."""
    save_tiny_toybox(make_tiny_bundle(), tmp_path / "toybox")
    settings = replace(settings, toybox=tmp_path / "toybox")
    renderer = Renderer(settings)
    half = [replace(model, label=f"{model.label}, half", scale=0.5) for model in models[1:]]
    asked = [*models, *reversed(models), *half]  # more deltas than are kept
    seen = []
    for company in (asked[:9], asked[9:18], asked[18:]):
        result = renderer.render(RenderRequest(company, PROMPTS, [3], steps=3), lambda _: None)
        assert not [cell.error for cell in result.cells if cell.error]
        cells = [[cell for cell in result.cells if cell.model == number] for number in range(len(company))]
        seen += [np.stack([read_image(settings, cell.sha256) for cell in column]) for column in cells]
    alone = {model: drawn_alone(bundle, model) for model in dict.fromkeys(asked)}
    for model, pictures in zip(asked, seen, strict=True):
        assert np.abs(pictures.astype(int) - alone[model].astype(int)).max() <= 1, model.label
    original = alone[models[0]]
    same = [model.label for model in models[1:] if np.abs(alone[model].astype(int) - original).max() <= 1]
    assert same == []
