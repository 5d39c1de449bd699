"""Root mean squared error of pixels: the plain distance that needs no weights."""

from __future__ import annotations

import numpy as np

from studio.metrics.base import check_images


class Rmse:
    """sqrt(mean((a - b)^2)) over pixels and channels, both scaled to 0 … 1."""

    name = "rmse"
    higher_is_better = False

    def score(self, images: np.ndarray, reference: np.ndarray) -> np.ndarray:
        """Distances [N] in 0 … 1 between pictures [N, H, W, 3] and their references of the same shape."""
        if check_images(images).shape != check_images(reference).shape:
            raise ValueError(f"Pictures {list(images.shape)} and references {list(reference.shape)} differ in shape.")
        difference = (images.astype(np.float64) - reference.astype(np.float64)) / 255.0
        return np.sqrt(np.mean(difference**2, axis=(1, 2, 3)))
