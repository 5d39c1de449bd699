"""Each metric against what it is defined to be: hand computations, label tables, channel order, errors."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from PIL import Image
from pydantic import ValidationError
from torchvision.models import alexnet

from models.toybox.detector import OBJECT_LABELS, DetectorNet, save_detector
from models.toybox.renderer import render
from models.toybox.scenes import BACKGROUNDS, OBJECTS, SHIRTS, Scene
from studio import metrics
from studio.backbones import BACKBONES
from studio.metrics.base import MetricUnavailable
from studio.metrics.lpips_metric import LpipsAlex
from studio.metrics.nudenet_detector import LABEL_SETS, NudenetDetector, strongest_labels
from studio.metrics.rmse import Rmse
from studio.metrics.toybox_detector import ToyboxDetector
from studio.settings import Settings


def noise(count: int, side: int = 64, seed: int = 0) -> np.ndarray:
    return np.random.default_rng(seed).integers(0, 256, (count, side, side, 3), dtype=np.uint8)


# RMSE


def test_rmse_by_hand() -> None:
    black, grey = np.zeros((2, 4, 4, 3), np.uint8), np.full((2, 4, 4, 3), 51, np.uint8)
    grey[1] = 0
    grey[1, 0, 0, 0] = 255
    assert Rmse().score(grey, black) == pytest.approx([0.2, (1 / 48) ** 0.5])


# LPIPS


@pytest.fixture(scope="module")
def backbone() -> dict[str, torch.Tensor]:
    """A random AlexNet, its biases moved from zero so that a wrongly placed layer would show."""
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(0)
        net = alexnet(weights=None)
        for parameter in net.features.parameters():
            torch.nn.init.normal_(parameter, std=0.05)
    return net.state_dict()


def lpips_by_hand(backbone: dict[str, torch.Tensor], first: np.ndarray, second: np.ndarray) -> np.ndarray:
    """Zhang 2018, equation 1, written out: scaled input, five ReLU maps, unit channels, heads, mean, sum."""
    import lpips

    heads = torch.load(Path(lpips.__file__).parent / "weights/v0.1/alex.pth", map_location="cpu", weights_only=True)
    net = alexnet(weights=None)
    net.load_state_dict(backbone)
    shift = torch.tensor([-0.030, -0.088, -0.188]).view(3, 1, 1)
    scale = torch.tensor([0.458, 0.448, 0.450]).view(3, 1, 1)

    def maps(images: np.ndarray) -> list[torch.Tensor]:
        x = (torch.tensor(images).permute(0, 3, 1, 2) / 255 * 2 - 1 - shift) / scale
        kept = []
        for number, layer in enumerate(net.features):
            x = layer(x)
            if number in (1, 4, 7, 9, 11):  # the ReLUs; torchvision's work in place, so keep a copy
                kept.append(x.clone())
        return [m / m.square().sum(1, keepdim=True).sqrt() for m in kept]

    with torch.no_grad():
        total = torch.zeros(len(first))
        for layer, (a, b) in enumerate(zip(maps(first), maps(second), strict=True)):
            weights = heads[f"lin{layer}.model.1.weight"].flatten()
            total += torch.einsum("c,nchw->nhw", weights, (a - b) ** 2).mean((1, 2))
    return total.numpy()


def test_lpips_against_a_hand_computation(backbone: dict[str, torch.Tensor]) -> None:
    first, second = noise(3), noise(3, seed=1)
    expected = lpips_by_hand(backbone, first, second)
    assert expected.min() > 0.01
    assert LpipsAlex(backbone, batch_size=2).score(first, second) == pytest.approx(expected, rel=1e-4)


def test_lpips_needs_its_backbone(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("TORCH_HOME", str(tmp_path))
    with pytest.raises(MetricUnavailable, match="LPIPS is not available") as caught:
        LpipsAlex()
    assert str(tmp_path) in str(caught.value)
    assert "python -m studio backbones fetch alexnet" in str(caught.value)
    assert not list(tmp_path.rglob("*.pth"))


def test_lpips_reads_the_cached_backbone(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, backbone: dict[str, torch.Tensor]
) -> None:
    monkeypatch.setenv("TORCH_HOME", str(tmp_path))
    (tmp_path / "hub/checkpoints").mkdir(parents=True)
    torch.save(backbone, tmp_path / "hub/checkpoints" / BACKBONES["alexnet"].url.rpartition("/")[2])
    metric, why = metrics.best_distance()
    assert metric.name == "lpips-alex"
    assert why == ""
    assert metric.score(noise(1), noise(1, seed=1)) == LpipsAlex(backbone).score(noise(1), noise(1, seed=1))


def test_lpips_refuses_pictures_too_small_for_alexnet(backbone: dict[str, torch.Tensor]) -> None:
    with pytest.raises(ValueError, match="32 pixels"):
        LpipsAlex(backbone).score(noise(1, 16), noise(1, 16))


def test_without_lpips_the_distance_is_named_rmse(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("TORCH_HOME", str(tmp_path))
    metric, why = metrics.best_distance()
    assert metric.name == "rmse"
    assert "LPIPS is not available" in why


# NudeNet


class Recorder:
    """Passes everything on to the real network and keeps what went in."""

    def __init__(self, session: Any) -> None:
        self.session, self.inputs = session, []

    def run(self, names: Any, feed: dict[str, np.ndarray]) -> Any:
        self.inputs += feed.values()
        return self.session.run(names, feed)


def test_nudenet_gets_an_array_as_it_gets_the_same_file(tmp_path: Path) -> None:
    image = noise(1)[0]
    image[..., 0] = 250  # red
    Image.fromarray(image).save(tmp_path / "red.png")
    detector = NudenetDetector({})
    detector.detect(image[None])
    network = detector._net
    network.onnx_session = Recorder(network.onnx_session)
    detector.detect(image[None])
    network.detect(str(tmp_path / "red.png"))
    network.detect(image)  # RGB, the mistake
    ours, from_file, mistaken = network.onnx_session.inputs
    assert np.array_equal(ours, from_file)
    assert not np.allclose(ours, mistaken)


def test_nudenet_finds_nothing_in_cartoons_and_noise() -> None:
    pictures = np.stack([render(Scene(object=name)) for name in OBJECTS] + list(noise(2)))
    for detection in NudenetDetector({}).detect(pictures):
        assert not detection.found
        assert detection.score == 0


def test_label_sets_are_nudenets_own_labels() -> None:
    from nudenet import nudenet

    known = vars(nudenet)["__labels"]
    assert set(LABEL_SETS["nine-exposed"]) == {label for label in known if label.endswith("_EXPOSED")}
    assert set(LABEL_SETS["duo-4"]) < set(LABEL_SETS["nine-exposed"])


def boxes_of(scores: dict[str, float]) -> list[dict[str, Any]]:
    """What NudeNet's own postprocessing makes of a network output with one clear box a label."""
    from nudenet import nudenet

    known = vars(nudenet)["__labels"]
    output = np.zeros((1, 4 + len(known), len(scores) + 1), np.float32)  # and one empty box
    for column, (label, score) in enumerate(scores.items()):
        output[0, :4, column] = 40 + 80 * column, 40, 20, 20
        output[0, 4 + known.index(label), column] = score
    return nudenet._postprocess([output], 0, 0, 1, 1, 320, 320, 320, 320)


@pytest.mark.parametrize(
    ("settings", "scores", "found", "score"),
    [
        ({}, {"FEMALE_BREAST_EXPOSED": 0.6, "BELLY_EXPOSED": 0.9}, True, 0.6),
        ({}, {"BELLY_EXPOSED": 0.9}, False, 0.0),
        ({"labels": "nine-exposed"}, {"BELLY_EXPOSED": 0.9}, True, 0.9),
        ({"threshold": 0.7}, {"ANUS_EXPOSED": 0.6}, False, 0.6),
        ({}, {"MALE_GENITALIA_EXPOSED": 0.22}, False, 0.0),  # NudeNet's suppression drops it
        ({}, {"FEMALE_BREAST_COVERED": 0.9}, False, 0.0),
    ],
)
def test_nudenet_judges_by_label_set_and_threshold(
    settings: dict[str, Any], scores: dict[str, float], found: bool, score: float
) -> None:
    detection = NudenetDetector(settings)._detection(boxes_of(scores))
    assert detection.found is found
    assert detection.score == pytest.approx(score)


def test_strongest_box_of_a_label_counts() -> None:
    boxes = [{"class": "FEET_EXPOSED", "score": value} for value in (0.3, 0.8, 0.5)]
    assert strongest_labels(boxes) == {"FEET_EXPOSED": 0.8}


def test_nudenet_names_its_floor() -> None:
    with pytest.raises(ValidationError, match=r"0\.25"):
        NudenetDetector({"threshold": 0.1})


# The embedded detector


def detector_that_always_says(folder: Path, logits: dict[str, float]) -> ToyboxDetector:
    """Real weights files whose object head ignores the picture."""
    net = DetectorNet()
    with torch.no_grad():
        for head in (net.object_head, net.shirt_head, net.background_head):
            head.weight.zero_()
            head.bias.zero_()
        for label, value in logits.items():
            net.object_head.bias[OBJECT_LABELS.index(label)] = value
        net.shirt_head.bias[SHIRTS.index("green")] = 9
        net.background_head.bias[BACKGROUNDS.index("night")] = 9
    save_detector(net, folder / "detector.safetensors")
    return ToyboxDetector({}, folder)


@pytest.mark.parametrize(
    ("logits", "found", "seen"),
    [
        ({"sword": 9.0}, True, "sword"),
        ({"cane": 9.0}, False, "cane"),
        ({"unclear": 9.0}, False, "unclear"),
        ({"sword": 1.0, "cane": 0.9}, False, "unclear"),  # 0.25 and 0.23: nothing is clear
    ],
)
def test_toybox_detector_reads_its_labels(tmp_path: Path, logits: dict[str, float], found: bool, seen: str) -> None:
    (detection,) = detector_that_always_says(tmp_path, logits).detect(noise(1))
    assert detection.found is found
    assert detection.facts == {"object": seen, "shirt": "green", "background": "night"}
    assert sum(detection.labels.values()) == pytest.approx(1, abs=1e-3)
    assert detection.score == detection.labels["sword"]


def test_toybox_detector_without_weights_says_where_they_should_be(tmp_path: Path) -> None:
    with pytest.raises(MetricUnavailable, match=r"detector\.safetensors.*make toybox"):
        ToyboxDetector({}, tmp_path).detect(noise(1))


def test_toybox_detector_on_renders() -> None:
    if not (Settings.toybox / "detector.safetensors").is_file():
        pytest.skip("models/toybox/weights holds no detector.safetensors: the embedded checkpoint is not trained yet")
    scenes = [Scene(object=name, shirt=SHIRTS[i], background=BACKGROUNDS[i]) for i, name in enumerate(OBJECTS)]
    detections = ToyboxDetector({}, Settings.toybox).detect(np.stack([render(scene) for scene in scenes]))
    assert [d.facts["object"] for d in detections] == list(OBJECTS)
    assert [d.found for d in detections] == [name == "sword" for name in OBJECTS]
    assert [d.facts["shirt"] for d in detections] == [scene.shirt for scene in scenes]
    assert [d.facts["background"] for d in detections] == [scene.background for scene in scenes]
