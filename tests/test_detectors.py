"""Detectors of other concepts than the embedded one's: against their libraries and hand computations."""

from __future__ import annotations

from importlib.metadata import EntryPoint
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import numpy as np
import pytest
import torch
from PIL import Image
from pydantic import ValidationError
from torchvision.models import ResNet50_Weights, resnet50
from transformers import CLIPImageProcessor

from models.clip_judge import ClipJudge
from models.specs import LoadError
from studio import metrics
from studio.detector_configs import NUDENET_LABELS, ClipDetectorConfig, NudenetConfig
from studio.metrics import clip_detector, external_detector, imagenet_detector
from studio.metrics.base import Detection, MetricUnavailable
from studio.metrics.clip_detector import ClipDetector
from studio.metrics.clip_score import ClipScore
from studio.metrics.external_detector import ExternalDetector
from studio.metrics.fid import FEWEST, Fid
from studio.metrics.imagenet_detector import ImagenetDetector, class_numbers
from studio.metrics.lpips_small import Lpips64, smaller
from studio.metrics.nudenet_detector import NudenetDetector
from tests.random_judges import save_random_resnet, save_tiny_clip


def noise(count: int, height: int = 64, width: int = 64, seed: int = 0) -> np.ndarray:
    """Soft noise: neighbours are alike, so that resizing by two libraries can be compared."""
    grid = torch.rand(count, 3, 8, 8, generator=torch.Generator().manual_seed(seed))
    large = torch.nn.functional.interpolate(grid, (height, width), mode="bilinear")
    return (large * 255).byte().permute(0, 2, 3, 1).numpy()


@pytest.fixture(scope="module")
def clip_folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return save_tiny_clip(tmp_path_factory.mktemp("clip"))


# CLIP


def test_clip_prepares_pictures_as_its_own_processor(clip_folder: Path) -> None:
    judge = ClipJudge(clip_folder)
    processor = CLIPImageProcessor(size={"shortest_edge": 32}, crop_size={"height": 32, "width": 32})
    for images in (noise(2, 64, 64), noise(1, 50, 80)):
        theirs = processor([Image.fromarray(image) for image in images], return_tensors="pt")["pixel_values"]
        assert torch.allclose(judge.prepared(images), theirs, atol=0.05)


def test_clip_gives_the_models_own_cosines(clip_folder: Path) -> None:
    judge = ClipJudge(clip_folder, batch_size=2)
    images, texts = noise(3), ["a sword", "a flower"]
    words = judge.tokenizer(texts, padding=True, return_tensors="pt")
    with torch.inference_mode():
        theirs = judge.model(pixel_values=judge.prepared(images), **words).logits_per_image
    assert torch.allclose(judge.scale * judge.pictures(images) @ judge.texts(texts).T, theirs, atol=1e-4)


def test_clips_score_is_the_concepts_share_of_the_softmax(clip_folder: Path) -> None:
    texts = {"concept": ["a sword", "a blade"], "others": ["a flower", "nothing"]}
    detector = ClipDetector({**texts, "model": str(clip_folder)})
    judge = ClipJudge(clip_folder)
    logits = judge.scale * judge.pictures(noise(2)) @ judge.texts([*texts["concept"], *texts["others"]]).T
    for detection, row in zip(detector.detect(noise(2)), logits.exp(), strict=True):
        assert detection.score == pytest.approx(float(row[:2].sum() / row.sum()), abs=1e-5)
        assert list(detection.labels) == ["a sword", "a blade", "a flower", "nothing"]
        assert sum(detection.labels.values()) == pytest.approx(1, abs=1e-5)


def test_clip_that_is_not_here_says_how_to_get_it(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("huggingface_hub.constants.HF_HUB_CACHE", str(tmp_path))
    with pytest.raises(MetricUnavailable, match="backbones fetch clip-l14"):
        ClipDetector({}).detect(noise(1))
    with pytest.raises(LoadError, match=r"No CLIP could be read from .*model\.safetensors"):
        ClipJudge(tmp_path)
    with pytest.raises(MetricUnavailable, match="No CLIP could be read"):
        clip_detector.load_clip(str(tmp_path))


def test_texts_are_needed() -> None:
    for wrong in ({"concept": []}, {"others": []}):
        with pytest.raises(ValidationError, match="at least 1 item"):
            ClipDetectorConfig(**wrong)


def test_the_clip_score_is_a_hundred_times_the_cosine(clip_folder: Path) -> None:
    judge = ClipJudge(clip_folder)
    images, prompts = noise(3), ["a sword", "a flower", "a cane"]
    cosines = (judge.pictures(images) * judge.texts(prompts)).sum(dim=-1).clamp(min=0)
    measure = ClipScore(judge)
    measure.add(images[:2], images[:2], prompts[:2])
    measure.add(images[2:], images[2:], prompts[2:])
    assert measure.take() == (pytest.approx(float(100 * cosines.mean()), abs=1e-3), 3)
    measure.add(images[:1], images[:1], prompts[:1])
    assert measure.take()[1] == 1
    with pytest.raises(ValueError, match="3 pictures came with 1 prompts"):
        measure.add(images, images, ["a sword"])


# ImageNet


@pytest.fixture(scope="module")
def imagenet_cache(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return save_random_resnet(tmp_path_factory.mktemp("torch"))


def test_imagenet_is_judged_as_torchvision_evaluates_it(imagenet_cache: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("TORCH_HOME", str(imagenet_cache))
    images = noise(2, 100, 140)
    theirs = ResNet50_Weights.IMAGENET1K_V1.transforms()(torch.from_numpy(images).permute(0, 3, 1, 2))
    assert torch.allclose(imagenet_detector.prepared(images), theirs, atol=0.05)
    detector = ImagenetDetector({"classes": ["church", "0"]})
    net = resnet50(weights=None)
    net.load_state_dict(torch.load(imagenet_cache / "hub/checkpoints/resnet50-0676ba61.pth", weights_only=True))
    with torch.inference_mode():
        shares = net.eval()(imagenet_detector.prepared(images)).softmax(dim=-1)
    for detection, row in zip(detector.detect(images), shares, strict=True):
        inside = max(row[0], row[497])
        others = max(row[i] for i in range(1000) if i not in (0, 497))
        assert detection.score == pytest.approx(float(inside / (inside + others)), abs=1e-4)
        assert detection.found == bool(row.argmax() in (0, 497))
        assert len(detection.labels) == 5


def test_classes_are_named_or_numbered() -> None:
    assert class_numbers(["Church", " 217 ", "tench"]) == [0, 217, 497]
    with pytest.raises(ValueError, match=r"no class 'fish'; near ones: .*fish"):
        class_numbers(["fish"])
    with pytest.raises(ValueError, match="no class '1000'"):
        class_numbers(["1000"])


# A detector of another package


def test_an_external_detector_is_found_by_its_entry_point(monkeypatch: pytest.MonkeyPatch) -> None:
    answers: list[Any] = [0.7, (0.2, {"gore": 0.2})]
    loaded = SimpleNamespace(detect=lambda images: answers)
    monkeypatch.setitem(__import__("sys").modules, "somebodys_judge", loaded)
    entry = EntryPoint("gore", "somebodys_judge:detect", external_detector.GROUP)
    monkeypatch.setattr(external_detector, "installed", lambda: {"gore": entry})
    detector = ExternalDetector({"entry_point": "gore"})
    first, second = detector.detect(noise(2))
    assert (first.found, first.score, second.found, second.labels) == (True, 0.7, False, {"gore": 0.2})
    answers[0] = 1.2
    with pytest.raises(ValueError, match=r"gave the confidence 1\.2; it must lie in 0"):
        detector.detect(noise(2))
    with pytest.raises(ValueError, match="2 answers for 3 pictures"):
        detector.detect(noise(3))


def test_an_external_detector_that_is_not_installed_is_named() -> None:
    with pytest.raises(MetricUnavailable, match=r"'os\.system' .*duo_studio\.detectors: none"):
        metrics.get_detector("external", {"entry_point": "os.system"}, Path())


# NudeNet


def test_a_score_that_is_no_number_is_no_absence() -> None:
    with pytest.raises(ValueError, match="the score nan, which is no number"):
        Detection(found=float("nan") >= 0.5, score=float("nan"))


def test_nudenets_custom_labels_count() -> None:
    detector = NudenetDetector({"labels": "custom", "custom_labels": ["FACE_MALE"]})
    boxes = [{"class": "FACE_MALE", "score": 0.8}, {"class": "FEET_EXPOSED", "score": 0.9}]
    assert detector._detection(boxes).score == 0.8
    assert detector.settings["label_set"] == ["FACE_MALE"]
    with pytest.raises(ValidationError, match="NudeNet has no label 'FACE'"):
        NudenetConfig(labels="custom", custom_labels=["FACE"])
    with pytest.raises(ValidationError, match="at least one label"):
        NudenetConfig(labels="custom")


def test_nudenets_labels_are_the_packages() -> None:
    from nudenet import nudenet

    assert set(NUDENET_LABELS) == set(vars(nudenet)["__labels"])


def test_nudenets_larger_model_is_a_file(tmp_path: Path) -> None:
    with pytest.raises(MetricUnavailable, match=r"no model of NudeNet at .*640m\.onnx"):
        NudenetDetector({"model": str(tmp_path / "640m.onnx")})


# Measures


class Means(torch.nn.Module):
    """Eight means of a picture: features whose Fréchet distance can be computed by hand."""

    def forward(self, images: torch.Tensor) -> torch.Tensor:
        return torch.nn.functional.adaptive_avg_pool2d(images.double()[:, :2], (2, 2)).flatten(1)


def test_fid_is_the_frechet_distance() -> None:
    from scipy.linalg import sqrtm

    ours, theirs = noise(40, seed=1), noise(40, seed=2)
    measure = Fid(Means())
    for start in (0, 20):
        measure.add(ours[start : start + 20], theirs[start : start + 20], [""] * 20)
    value, count = measure.take()
    a, b = (Means()(torch.from_numpy(x).permute(0, 3, 1, 2)).numpy() for x in (ours, theirs))
    first, second = np.cov(a, rowvar=False), np.cov(b, rowvar=False)
    expected = ((a.mean(0) - b.mean(0)) ** 2).sum() + np.trace(first + second - 2 * sqrtm(first @ second).real)
    assert value == pytest.approx(expected, rel=1e-3)
    assert (count, Fid.fewest) == (40, FEWEST)
    measure.add(ours, ours, [""] * 40)
    assert measure.take()[0] == pytest.approx(0, abs=1e-3 * expected)


def test_lpips_at_64_pixels_is_of_smaller_pictures() -> None:
    asked: list[tuple[int, ...]] = []

    def score(images: np.ndarray, reference: np.ndarray) -> np.ndarray:
        asked.append(images.shape)
        return np.array([0.25, 0.75])

    measure = Lpips64(SimpleNamespace(score=score))  # type: ignore[arg-type]
    measure.add(noise(2, 128, 128), noise(2, 128, 128), ["", ""])
    assert asked == [(2, 64, 64, 3)]
    assert measure.take() == (0.5, 2)
    assert np.array_equal(smaller(noise(1)), noise(1))
