"""LPIPS (Zhang et al. 2018, https://arxiv.org/abs/1801.03924) with AlexNet, version 0.1, by the lpips package.

The package ships the small heads but not AlexNet, which it would download. Nothing is downloaded here: the
backbone is taken from torch's own cache, or the metric says that it is not available offline and how to get it.
"""

from __future__ import annotations

import warnings
from pathlib import Path

import numpy as np
import torch

from studio.backbones import BackboneError, located
from studio.metrics.base import MetricUnavailable, check_images

SMALLEST_SIDE = 32  # below it AlexNet's last layers have no pixel left


def load_backbone() -> dict[str, torch.Tensor]:
    """AlexNet's state dict from the cache, read without unpickling objects. Raises MetricUnavailable."""
    try:
        return torch.load(located("alexnet"), map_location="cpu", weights_only=True)
    except BackboneError as error:
        raise MetricUnavailable(str(error)) from None


def build_lpips(backbone: dict[str, torch.Tensor]) -> torch.nn.Module:
    """lpips.LPIPS with these AlexNet weights ("features.<layer>.…") and the package's own heads."""
    try:
        import lpips
    except ImportError:
        raise MetricUnavailable("LPIPS is not installed; install it with `pip install lpips==0.1.4`.") from None

    with warnings.catch_warnings():
        warnings.simplefilter("ignore")  # the package calls torchvision by names deprecated since
        model = lpips.LPIPS(net="alex", version="0.1", pretrained=False, pnet_rand=True, verbose=False)
    # Slice k of the package's AlexNet keeps torchvision's layer numbers: "slice2.3.weight" is "features.3.weight".
    names = {name: "features." + name.split(".", 1)[1] for name in model.net.state_dict()}
    model.net.load_state_dict({name: backbone[source] for name, source in names.items()})
    heads = torch.load(Path(lpips.__file__).parent / "weights/v0.1/alex.pth", map_location="cpu", weights_only=True)
    model.load_state_dict(heads, strict=False)
    return model.eval().requires_grad_(False)


class LpipsAlex:
    """Perceptual distance: 0 is equal, lower is better. Pictures are compared at their own size."""

    name = "lpips-alex"
    higher_is_better = False

    def __init__(self, backbone: dict[str, torch.Tensor] | None = None, batch_size: int = 32) -> None:
        self.model = build_lpips(load_backbone() if backbone is None else backbone)
        self.batch_size = batch_size

    def score(self, images: np.ndarray, reference: np.ndarray) -> np.ndarray:
        """Distances [N] between pictures [N, H, W, 3] and their references of the same shape."""
        if check_images(images).shape != check_images(reference).shape:
            raise ValueError(f"Pictures {list(images.shape)} and references {list(reference.shape)} differ in shape.")
        if min(images.shape[1:3]) < SMALLEST_SIDE:
            raise ValueError(f"LPIPS needs pictures of {SMALLEST_SIDE} pixels a side; got {list(images.shape[1:3])}.")
        scores = np.zeros(len(images))
        for start in range(0, len(images), self.batch_size):
            batch = slice(start, start + self.batch_size)
            with torch.inference_mode():
                distance = self.model(_tensor(images[batch]), _tensor(reference[batch]))
            scores[batch] = distance.flatten().double().numpy()
        return scores


def _tensor(images: np.ndarray) -> torch.Tensor:
    """uint8 [N, H, W, 3] -> float32 [N, 3, H, W] in -1 … 1, RGB."""
    return torch.from_numpy(np.ascontiguousarray(images)).permute(0, 3, 1, 2).float() / 127.5 - 1.0
