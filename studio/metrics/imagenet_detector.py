"""ImageNet's classes by ResNet-50: is the likeliest class of a picture one of those that are to be forgotten?"""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path
from typing import Any

import numpy as np
import torch
from torch.nn import functional as F

from studio.backbones import BackboneError, located
from studio.detector_configs import ImagenetDetectorConfig
from studio.metrics.base import Detection, MetricUnavailable, check_images

MEAN, STD = (0.485, 0.456, 0.406), (0.229, 0.224, 0.225)
RESIZED, SIDE = 256, 224
KEPT_LABELS = 5


class ImagenetDetector:
    """`score` is a / (a + b): a the likeliest class of the list, b the likeliest of all others.

    A half and more means that the list has the likeliest class, so the threshold 0.5 is the field's top-1 accuracy.
    """

    name = "imagenet"
    higher_is_better = False
    names: Sequence[str] = ()
    wanted: Sequence[str] = ()

    def __init__(self, settings: dict[str, Any], toybox: Path | None = None) -> None:
        self.config = ImagenetDetectorConfig(**settings)
        self.settings = self.config.model_dump()
        self.version = "ResNet-50 (torchvision, IMAGENET1K_V1)"
        self.numbers, self.names = class_numbers(self.config.classes), categories()
        self.wanted = [self.names[number] for number in self.numbers]
        self._net: torch.nn.Module | None = None

    def detect(self, images: np.ndarray) -> list[Detection]:
        """One Detection a picture of [N, H, W, 3]; labels hold the likeliest classes with their probabilities."""
        if len(check_images(images)) == 0:
            return []
        return [self._detection(row) for row in self.probabilities(images)]

    @torch.inference_mode()
    def probabilities(self, images: np.ndarray, batch_size: int = 16) -> torch.Tensor:
        """[N, 1000]: resized to 256, 224 cut out of the middle, normalised, as torchvision evaluates the weights."""
        net = self._load()
        parts = [net(prepared(images[start : start + batch_size])) for start in range(0, len(images), batch_size)]
        return torch.cat(parts).softmax(dim=-1)

    def _detection(self, row: torch.Tensor) -> Detection:
        inside = float(row[self.numbers].max())
        others = row.clone()
        others[self.numbers] = 0
        score = inside / max(inside + float(others.max()), 1e-12)
        best = row.topk(KEPT_LABELS)
        labels = {categories()[int(i)]: float(p) for p, i in zip(best.values, best.indices, strict=True)}
        return Detection(found=score >= self.config.threshold, score=score, labels=labels)

    def _load(self) -> torch.nn.Module:
        if self._net is None:
            from torchvision.models import resnet50

            try:
                state = torch.load(located("resnet50"), map_location="cpu", weights_only=True)
            except BackboneError as error:
                raise MetricUnavailable(str(error)) from None
            self._net = resnet50(weights=None)
            self._net.load_state_dict(state)
            self._net.eval().requires_grad_(False)
        return self._net


def categories() -> list[str]:
    """ImageNet's 1,000 classes by number, in torchvision's words."""
    from torchvision.models import ResNet50_Weights

    return list(ResNet50_Weights.IMAGENET1K_V1.meta["categories"])


def class_numbers(classes: list[str]) -> list[int]:
    """Numbers of classes given by name ("church", in any case) or by number. Raises ValueError naming near ones."""
    known = {name.lower(): number for number, name in reversed(list(enumerate(categories())))}
    numbers = []
    for one in classes:
        word = one.strip().lower()
        number = int(word) if word.isdigit() else known.get(word, -1)
        if not 0 <= number < len(categories()):
            near = [name for name in known if word and (word in name or name in word)][:5]
            hint = f"; near ones: {', '.join(near)}" if near else ""
            raise ValueError(
                f"ImageNet has no class {one!r}{hint}. Give a name as torchvision spells it, or a number of 0 to 999."
            )
        numbers.append(number)
    return sorted(set(numbers))


def prepared(images: np.ndarray) -> torch.Tensor:
    """uint8 [N, H, W, 3] -> float32 [N, 3, 224, 224]."""
    x = torch.from_numpy(np.ascontiguousarray(images)).permute(0, 3, 1, 2).float() / 255
    factor = RESIZED / min(x.shape[-2:])
    size = [max(RESIZED, int(factor * length)) for length in x.shape[-2:]]
    x = F.interpolate(x, size, mode="bilinear", antialias=True)
    top, left = (round((length - SIDE) / 2) for length in x.shape[-2:])
    x = x[..., top : top + SIDE, left : left + SIDE]
    return (x - torch.tensor(MEAN).view(3, 1, 1)) / torch.tensor(STD).view(3, 1, 1)
