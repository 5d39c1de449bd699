"""Published networks that detectors and measures need and no package ships: where they lie, and how to fetch them.

Nothing is fetched unasked. A file is taken from the cache that the libraries themselves use, so what another program
has downloaded serves here too. Torch-free: the page shows what is there.
"""

from __future__ import annotations

import hashlib
import io
import os
import urllib.request
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from models.files import write_atomically

CHUNK = 1 << 20
TIMEOUT = 30.0  # seconds without a byte
Progress = Callable[[int, int], None]  # bytes so far, bytes in all (0: unknown)


class BackboneError(RuntimeError):
    """A network that is not here, or that could not be fetched. Names what is missing and how to get it."""


@dataclass(frozen=True)
class Backbone:
    """One published network."""

    key: str
    title: str
    serves: str  # what it is needed for
    megabytes: int
    url: str = ""  # of one file …
    sha256: str = ""  # … the first digits of its hash, which its publisher put into its name
    repository: str = ""  # or a repository of the hub …
    revision: str = ""  # … at this commit

    @property
    def fetch_command(self) -> str:
        """What to run on a machine with network."""
        return f"python -m studio backbones fetch {self.key}"


BACKBONES: dict[str, Backbone] = {
    one.key: one
    for one in (
        Backbone(
            "alexnet",
            "AlexNet, torchvision's weights of ImageNet",
            "LPIPS",
            233,
            url="https://download.pytorch.org/models/alexnet-owt-7be5be79.pth",
            sha256="7be5be79",
        ),
        Backbone(
            "resnet50",
            "ResNet-50, torchvision's first weights of ImageNet",
            "the detector of ImageNet's classes",
            98,
            url="https://download.pytorch.org/models/resnet50-0676ba61.pth",
            sha256="0676ba61",
        ),
        Backbone(
            "inception",
            "Inception v3 of the original FID, as torch-fidelity's file",
            "FID",
            91,
            url="https://github.com/toshas/torch-fidelity/releases/download/v0.2.0/"
            "weights-inception-2015-12-05-6726825d.pth",
            sha256="6726825d",
        ),
        Backbone(
            "clip-l14",
            "CLIP ViT-L/14 of OpenAI",
            "the detector of a concept in words, and the CLIP score",
            1710,
            repository="openai/clip-vit-large-patch14",
            revision="32bd64288804d66eefd0ccbe215aa642df71cc41",
        ),
    )
}
MEASURED_WITH = {"clip-score": "clip-l14", "lpips-64": "alexnet", "fid": "inception", "imagenette": "resnet50"}
NETWORK_OF = {**MEASURED_WITH, "lpips-alex": "alexnet", "clip": "clip-l14", "imagenet": "resnet50"}
HUB_FILES = ("*.json", "*.txt", "model.safetensors")


def get_backbone(key: str) -> Backbone:
    """Raises BackboneError naming the known ones."""
    if key not in BACKBONES:
        raise BackboneError(f"There is no backbone {key!r}; use one of {', '.join(BACKBONES)}.")
    return BACKBONES[key]


def torch_cache() -> Path:
    """Where torch.hub keeps downloaded weights, found without importing torch."""
    cache = Path(os.environ.get("XDG_CACHE_HOME") or Path.home() / ".cache")
    return Path(os.environ.get("TORCH_HOME") or cache / "torch").expanduser() / "hub" / "checkpoints"


def find(backbone: Backbone) -> Path | None:
    """The file or folder where it is on this machine, else None. Asks no network."""
    if backbone.url:
        path = torch_cache() / backbone.url.rpartition("/")[2]
        return path if path.is_file() else None
    from huggingface_hub import try_to_load_from_cache

    found = [
        try_to_load_from_cache(backbone.repository, name, revision=backbone.revision)
        for name in ("config.json", "model.safetensors")
    ]
    return Path(str(found[0])).parent if all(isinstance(one, str) for one in found) else None


def located(key: str) -> Path:
    """Where a backbone lies. Raises BackboneError where it does not, with the command that fetches it."""
    backbone = get_backbone(key)
    path = find(backbone)
    if path is None:
        where = torch_cache() / backbone.url.rpartition("/")[2] if backbone.url else "in the hub's cache"
        raise BackboneError(
            f"{backbone.title} is not on this machine (looked {f'at {where}' if backbone.url else where}), so "
            f"{backbone.serves} is not available. With network, fetch its {backbone.megabytes} MB once: "
            f"{backbone.fetch_command}"
        )
    return path


def fetch(key: str, progress: Progress) -> Path:
    """Download a backbone into its library's cache unless it is there. Raises BackboneError; leaves no half file."""
    backbone = get_backbone(key)
    if found := find(backbone):
        return found
    return _fetch_file(backbone, progress) if backbone.url else _fetch_repository(backbone, progress)


def _fetch_file(backbone: Backbone, progress: Progress) -> Path:
    path = torch_cache() / backbone.url.rpartition("/")[2]
    digest, parts, done = hashlib.sha256(), [], 0
    try:
        with urllib.request.urlopen(backbone.url, timeout=TIMEOUT) as answer:
            total = int(answer.headers.get("Content-Length") or 0)
            while chunk := answer.read(CHUNK):
                digest.update(chunk)
                parts.append(chunk)
                done += len(chunk)
                progress(done, total)
    except OSError as error:
        raise BackboneError(
            f"{backbone.title} could not be fetched from {backbone.url}: {error}. Try again with network, or put the "
            f"file at {path} by hand."
        ) from error
    if done < total:
        raise BackboneError(
            f"{backbone.title}: the download from {backbone.url} ended after {done} of {total} bytes. Try again."
        )
    if not digest.hexdigest().startswith(backbone.sha256):
        raise BackboneError(
            f"{backbone.title}: what {backbone.url} sent has the SHA-256 {digest.hexdigest()[:16]}…, not "
            f"{backbone.sha256}…. It was thrown away; a proxy may have answered in its place."
        )
    path.parent.mkdir(parents=True, exist_ok=True)
    write_atomically(path, b"".join(parts))
    return path


def _fetch_repository(backbone: Backbone, progress: Progress) -> Path:
    from huggingface_hub import snapshot_download

    progress(0, 0)
    try:
        folder = snapshot_download(
            backbone.repository, revision=backbone.revision, allow_patterns=list(HUB_FILES), tqdm_class=_bar(progress)
        )
    except (OSError, ValueError, RuntimeError) as error:
        raise BackboneError(
            f"{backbone.title} could not be fetched from the hub ({backbone.repository} at {backbone.revision[:7]}): "
            f"{str(error).splitlines()[0] if str(error) else type(error).__name__}. Try again with network."
        ) from error
    return Path(folder)


def _bar(progress: Progress) -> type:
    """A tqdm that tells bytes to `progress` and draws nothing."""
    from huggingface_hub.utils import tqdm

    class Bar(tqdm):
        def __init__(self, *args: Any, **kwargs: Any) -> None:
            super().__init__(*args, **{**kwargs, "disable": False, "file": io.StringIO()})

        def update(self, n: float | None = 1) -> bool | None:
            shown = super().update(n)
            if self.unit == "B":
                progress(int(self.n), int(self.total or 0))
            return shown

    return Bar
