"""Which checkpoints there are and how one is named: pure data, no torch.

A reference is the text a person types: ``toybox``, ``toybox:oracle``, a diffusers folder, one ``.safetensors`` file,
or ``owner/name@revision`` on the Hugging Face hub, with ``#fp16`` behind it for the weights of that variant. Behind a
file ``#epsilon`` or ``#v_prediction`` says what its network predicts, where the file itself does not.
"""

from __future__ import annotations

import re
from dataclasses import dataclass
from pathlib import Path
from typing import Literal

FamilyName = Literal["sd1", "sd2", "sdxl", "sd3", "flux"]  # see models.families

TOYBOX = "toybox"
TOYBOX_ORACLE = "toybox:oracle"

PREDICTIONS = ("epsilon", "v_prediction")

_FILE = re.compile(r"(?P<path>.+\.safetensors)(#(?P<prediction>\w*))?")
_HUB = re.compile(r"(?P<repository>[\w.-]+/[\w.-]+)(@(?P<revision>[\w./-]+))?(#(?P<variant>\w+))?")


class LoadError(ValueError):
    """A checkpoint or an adapter that cannot be loaded. Says the cause, the value and the remedy."""


@dataclass(frozen=True)
class ModelSpec:
    """What is known of a loaded (or published) checkpoint."""

    name: str  # as shown to people
    checkpoint: str  # the reference that loads it again, without revision
    revision: str | None  # a hub commit or branch; None for local files
    family: FamilyName
    resolution: int  # pixels along one side of a picture
    dtype: str = "float32"  # "float32" | "float16" | "bfloat16"
    note: str = ""  # what was decided on loading and may be otherwise, in a sentence


KNOWN_MODELS: dict[str, ModelSpec] = {
    spec.checkpoint: spec
    for spec in (
        ModelSpec(
            "Stable Diffusion 1.4",
            "CompVis/stable-diffusion-v1-4",
            "133a221b8aa7292a167afc5127cb63fb5005638b",
            "sd1",
            512,
        ),
        ModelSpec(
            "Stable Diffusion 1.5",
            "stable-diffusion-v1-5/stable-diffusion-v1-5",
            "451f4fe16113bff5a5d2269ed5ad43b0592e9a14",
            "sd1",
            512,
        ),
    )
}


@dataclass(frozen=True)
class Reference:
    """A checkpoint's name, taken apart."""

    text: str
    kind: Literal["toybox", "folder", "file", "hub"]
    location: str  # "toybox", a path, or "owner/name"
    revision: str | None = None
    unet: str = ""  # the subfolder of the network, where it is not the family's
    variant: str | None = None  # of the weights' files on the hub, e.g. "fp16"
    prediction: str = ""  # of a file: one of PREDICTIONS, "" as it says itself


def without_place(text: str) -> str:
    """A checkpoint's name for what is handed on: of a folder or file without where it lies on this machine."""
    reference = parse_reference(text)
    if reference.kind not in ("folder", "file"):
        return text
    return Path(reference.location).name + (f"#{reference.prediction}" if reference.prediction else "")


def parse_reference(text: str) -> Reference:
    """Take a reference apart. Whether it exists is found out on loading.

    Raises:
        LoadError: the text has none of the five forms.
    """
    text = text.strip()
    if text == TOYBOX:
        return Reference(text, "toybox", TOYBOX)
    if text == TOYBOX_ORACLE:
        return Reference(text, "toybox", TOYBOX, unet="oracle")
    path = Path(text).expanduser()
    if text.endswith((".ckpt", ".pt", ".pth", ".bin")):
        raise LoadError(
            f"{text!r} is a pickled checkpoint, which can run code when it is opened. "
            "Use a .safetensors file or a diffusers folder."
        )
    if match := _FILE.fullmatch(text):
        prediction = match["prediction"] or ""
        if prediction and prediction not in PREDICTIONS:
            raise LoadError(f"{text!r} ends with #{prediction}; use #{' or #'.join(PREDICTIONS)}, or neither.")
        return Reference(text, "file", str(Path(match["path"]).expanduser()), prediction=prediction)
    if text and (path.is_dir() or path.is_absolute() or text.startswith((".", "~"))):
        return Reference(text, "folder", str(path))
    if (match := _HUB.fullmatch(text)) and ".." not in text:
        repository = match["repository"]
        known = KNOWN_MODELS.get(repository)
        return Reference(
            text,
            "hub",
            repository,
            match["revision"] or (known.revision if known else "main"),
            variant=match["variant"],
        )
    raise LoadError(
        f"{text!r} names no checkpoint. Use toybox, toybox:oracle, a diffusers folder, a .safetensors file, "
        "or owner/name@revision on the Hugging Face hub."
    )
