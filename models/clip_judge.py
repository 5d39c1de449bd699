"""CLIP as a judge: embeddings of pictures and texts by transformers' class, read from a local folder alone."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import torch
from torch.nn import functional as F
from transformers import CLIPModel, CLIPTokenizer

from models.specs import LoadError

MEAN = (0.48145466, 0.4578275, 0.40821073)  # of CLIP's own preprocessing
STD = (0.26862954, 0.26130258, 0.27577711)


class ClipJudge:
    """Unit-length embeddings of pictures and texts (Radford et al. 2021, https://arxiv.org/abs/2103.00020)."""

    def __init__(self, folder: Path, device: torch.device | str = "cpu", batch_size: int = 16) -> None:
        """`folder` holds config.json, a tokenizer and model.safetensors. Raises LoadError."""
        try:
            self.model = CLIPModel.from_pretrained(folder, local_files_only=True, use_safetensors=True)
            self.tokenizer = CLIPTokenizer.from_pretrained(folder, local_files_only=True)
        except (OSError, ValueError) as error:
            raise LoadError(
                f"No CLIP could be read from {folder}: {str(error).splitlines()[0]} It needs config.json, a tokenizer "
                "and model.safetensors, as in openai/clip-vit-large-patch14."
            ) from error
        self.model = self.model.to(device).eval().requires_grad_(False)
        self.device, self.batch_size = torch.device(device), batch_size
        self.side: int = self.model.config.vision_config.image_size
        self.scale = float(self.model.logit_scale.exp())  # CLIP's own factor of cosines; 100 as published

    @torch.inference_mode()
    def pictures(self, images: np.ndarray) -> torch.Tensor:
        """uint8 [N, H, W, 3] -> [N, D] on the CPU: shorter side resized (bicubic), centre cut out, normalised."""
        parts = []
        for start in range(0, len(images), self.batch_size):
            pixels = self.prepared(images[start : start + self.batch_size]).to(self.device)
            hidden = self.model.vision_model(pixel_values=pixels).pooler_output
            parts.append(F.normalize(self.model.visual_projection(hidden), dim=-1).cpu())
        return torch.cat(parts) if parts else torch.empty(0, self.model.config.projection_dim)

    @torch.inference_mode()
    def texts(self, texts: list[str]) -> torch.Tensor:
        """[N] -> [N, D] on the CPU; a text longer than the encoder reads is cut off."""
        words = self.tokenizer(texts, padding=True, truncation=True, return_tensors="pt").to(self.device)
        hidden = self.model.text_model(**words).pooler_output
        return F.normalize(self.model.text_projection(hidden), dim=-1).cpu()

    def prepared(self, images: np.ndarray) -> torch.Tensor:
        """uint8 [N, H, W, 3] -> float32 [N, 3, side, side] as CLIP was trained."""
        x = torch.from_numpy(np.ascontiguousarray(images)).permute(0, 3, 1, 2).float()
        factor = self.side / min(x.shape[-2:])
        size = [max(self.side, round(factor * length)) for length in x.shape[-2:]]
        x = F.interpolate(x, size, mode="bicubic", antialias=True).round().clamp(0, 255) / 255
        top, left = ((length - self.side) // 2 for length in x.shape[-2:])
        x = x[..., top : top + self.side, left : left + self.side]
        return (x - torch.tensor(MEAN).view(3, 1, 1)) / torch.tensor(STD).view(3, 1, 1)
