"""The latents of a pair's two pictures, one safetensors file a try: `latents/<pair id>-<start of a hash>.safetensors`.

The hash is the safe picture's name, which differs from try to try. So a pair's row, which names the pictures, always
names their latents too, whenever a worker is killed. Pairs of before have `<pair id>.safetensors`, which is still read.
"""

from __future__ import annotations

from pathlib import Path

import torch
from safetensors import safe_open
from safetensors.torch import save

from models.files import write_atomically
from models.fingerprint import FINGERPRINT
from studio.records import ImagePair
from studio.settings import Settings
from studio.workflow.context import WorkflowError


def latents_path(settings: Settings, pair: ImagePair) -> Path:
    """Where the latents of the pair's present pictures lie, whether they are there or not."""
    own, first = _own_path(settings, pair.id, pair.safe_image), settings.latents / f"{pair.id}.safetensors"
    return first if first.is_file() and not own.is_file() else own


def write_latents(
    settings: Settings, pair_id: str, safe_image: str, unsafe: torch.Tensor, safe: torch.Tensor, fingerprint: str
) -> None:
    """Keep both latents [C, h, w] with the fingerprint of the checkpoint that made them."""
    both = {"unsafe": unsafe.contiguous(), "safe": safe.contiguous()}
    write_atomically(_own_path(settings, pair_id, safe_image), save(both, {FINGERPRINT: fingerprint}))


def set_aside(settings: Settings, pair: ImagePair) -> None:
    """Give latents of before the name of their try, so that the row of another try can never mean them."""
    path, own = latents_path(settings, pair), _own_path(settings, pair.id, pair.safe_image)
    if pair.safe_image and path != own:
        path.rename(own)


def read_latents(settings: Settings, pair: ImagePair, fingerprint: str) -> tuple[torch.Tensor, torch.Tensor]:
    """Unsafe and safe latents [C, h, w].

    Raises WorkflowError where they are missing, or where another checkpoint than that of `fingerprint` made them.
    """
    path = latents_path(settings, pair)
    if not path.is_file():
        raise WorkflowError(f"The latents of pair {pair.id} are missing ({path}). Reject the pair or restore the file.")
    with safe_open(path, "pt") as file:
        made_by = (file.metadata() or {}).get(FINGERPRINT, fingerprint)
        if made_by != fingerprint:
            raise WorkflowError(
                f"Pair {pair.id} was made with another checkpoint (SHA-256 {made_by[:12]}) than the project has now "
                f"({fingerprint[:12]}), so its latents mean something else here. Restore that checkpoint, or make the "
                "pairs again: redo them in Curate, or begin a new project."
            )
        return file.get_tensor("unsafe"), file.get_tensor("safe")


def _own_path(settings: Settings, pair_id: str, safe_image: str) -> Path:
    return settings.latents / f"{pair_id}-{safe_image[:12]}.safetensors"
