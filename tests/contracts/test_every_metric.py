"""What every detector and every distance promises; a new line in a registry is tested for free."""

from __future__ import annotations

import json
from importlib.metadata import EntryPoint
from pathlib import Path

import numpy as np
import pytest
import torch
from torchvision.models import alexnet

from models.toybox.detector import DetectorNet, save_detector
from studio import metrics
from studio.detector_configs import DETECTOR_CONFIGS
from studio.metrics import external_detector
from studio.metrics.base import Detector, Metric
from studio.metrics.lpips_metric import LpipsAlex
from studio.metrics.rmse import Rmse
from tests.random_judges import save_random_resnet, save_tiny_clip

PICTURES = np.random.default_rng(0).integers(0, 256, (3, 64, 64, 3), dtype=np.uint8)
WRONG_INPUTS = {
    "floats": PICTURES / 255.0,
    "one picture": PICTURES[0],
    "channels first": PICTURES.transpose(0, 3, 1, 2),
    "grey": PICTURES[..., :1],
    "no pixels": PICTURES[:, :0],
    "a list": [1, 2],
}


@pytest.fixture(scope="module")
def judges(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The detectors' networks with random weights."""
    home = tmp_path_factory.mktemp("judges")
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(0)
        save_detector(DetectorNet(), home / "detector.safetensors")
    save_tiny_clip(home / "clip")
    return save_random_resnet(home)


@pytest.fixture(params=metrics.DETECTORS)
def detector(request: pytest.FixtureRequest, judges: Path, monkeypatch: pytest.MonkeyPatch) -> Detector:
    """Each detector; the external one tells how red a picture is."""
    monkeypatch.setenv("TORCH_HOME", str(judges))
    entry = EntryPoint("red", "tests.contracts.test_every_metric:redness", external_detector.GROUP)
    monkeypatch.setattr(external_detector, "installed", lambda: {"red": entry})
    settings = {"clip": {"model": str(judges / "clip")}, "external": {"entry_point": "red"}}
    return metrics.get_detector(request.param, settings.get(request.param, {}), judges)


def redness(images: np.ndarray) -> list[float]:
    return list(images[..., 0].mean(axis=(1, 2)) / 255)


@pytest.fixture(params=metrics.DISTANCES)
def distance(request: pytest.FixtureRequest) -> Metric:
    """Each distance, LPIPS with a random backbone."""
    if request.param == "rmse":
        return Rmse()
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(0)
        return LpipsAlex(alexnet(weights=None).state_dict())


def test_every_detector_has_a_config_for_the_page() -> None:
    assert set(metrics.DETECTORS) == set(DETECTOR_CONFIGS)


def test_a_detector_names_itself_and_its_settings(detector: Detector) -> None:
    assert detector.name in metrics.DETECTORS
    assert detector.version
    assert not detector.higher_is_better
    assert json.loads(json.dumps(detector.settings)) == detector.settings
    assert "threshold" in detector.settings


def test_a_detector_answers_each_picture_alone_and_again(detector: Detector) -> None:
    together = detector.detect(PICTURES)
    assert len(together) == 3
    assert together == detector.detect(PICTURES)
    for index, detection in enumerate(together):
        assert 0 <= detection.score <= 1
        assert detection.found == (detection.score >= detector.settings["threshold"])
        (alone,) = detector.detect(PICTURES[index : index + 1])
        assert alone.score == pytest.approx(detection.score, abs=1e-5)
        assert alone.facts == detection.facts


def test_a_detector_takes_no_pictures(detector: Detector) -> None:
    assert detector.detect(PICTURES[:0]) == []


@pytest.mark.parametrize("wrong", WRONG_INPUTS.values(), ids=WRONG_INPUTS)
def test_a_detector_refuses_what_is_no_picture(detector: Detector, wrong: np.ndarray) -> None:
    with pytest.raises(ValueError, match=r"Pictures must be"):
        detector.detect(wrong)


def test_an_unknown_detector_is_named_with_the_known_ones(tmp_path: Path) -> None:
    with pytest.raises(ValueError, match=r"'nose'.*toybox.*nudenet"):
        metrics.get_detector("nose", {}, tmp_path)


def test_a_distance_is_zero_for_equals_and_symmetric(distance: Metric) -> None:
    other = PICTURES[::-1].copy()
    assert distance.name in metrics.DISTANCES
    assert not distance.higher_is_better
    assert distance.score(PICTURES, PICTURES) == pytest.approx([0, 0, 0], abs=1e-6)
    forth, back = distance.score(PICTURES, other), distance.score(other, PICTURES)
    assert forth.shape == (3,)
    assert forth == pytest.approx(back, abs=1e-5)
    assert forth[0] > 0


def test_a_distance_refuses_what_is_no_picture_or_another_shape(distance: Metric) -> None:
    for wrong in WRONG_INPUTS.values():
        with pytest.raises(ValueError, match="Pictures must be"):
            distance.score(wrong, wrong)
    with pytest.raises(ValueError, match="differ in shape"):
        distance.score(PICTURES, PICTURES[:2])
