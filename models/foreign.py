"""Read what other programs made of a checkpoint: edited weights and LoRAs in the layouts that are published.

Read are safetensors and diffusers folders, with the keys of

- whole or partial UNets and transformers in diffusers' names (ESD and UCE publish the layers they changed), or UNets
  in the original layout's (Concept Ablation's first code has the layers it changed);
- CLIP text encoders, as AdvUnlearn publishes them;
- LoRAs of peft and of diffusers, old and new, and of kohya's scripts, in whose layout SPM is published.

A pickled state dict is first turned into safetensors by a child process: see `models.unpickle`. Every key must find its
place; those that do not are named, and so are two that have one place and do not hold the same. Names and shapes are
judged by the file's header, before its gigabytes are read.
"""

from __future__ import annotations

import subprocess
import sys
import tempfile
from collections.abc import Iterable, Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import torch
from diffusers.loaders.single_file_utils import convert_open_clip_checkpoint
from safetensors import SafetensorError, safe_open

from models.adapters import applied
from models.bundle import ModelBundle
from models.deltas import PARTS, WeightDelta, load_delta, part_metadata
from models.foreign_keys import Places, Tensors, UnchangedError, refuse_strange, without_prefix
from models.foreign_lora import factors_of, is_lora, lora_of
from models.original_layout import unet_key
from models.specs import LoadError
from models.transport import transport_metadata

PICKLED = (".pt", ".pth", ".bin", ".ckpt")
UNPICKLE_SECONDS = 600
ORIGINAL_LAYOUT = "model.diffusion_model."
TEXT = "text_encoder"
_TEXT_PREFIXES = ("module.", f"{TEXT}.", "cond_stage_model.transformer.", "conditioner.embedders.0.transformer.",
                  "text_model.")  # fmt: skip
OPEN_CLIP = "cond_stage_model.model."  # Stable Diffusion 2's in the original layout
_POSITIONS = "position_ids"  # 0 … L - 1, which older files hold as if it were a weight
HALF = (torch.float16, torch.bfloat16)


def load_foreign(path: Path, bundle: ModelBundle, *, transport: bool = False) -> WeightDelta:
    """What a file or folder makes of the bundle, as a delta.

    Args:
        path: a .safetensors file, a folder of a network or of a whole pipeline, or a pickled state dict.
        bundle: the checkpoint it was made from; edited weights are kept as their difference to it.
        transport: give a LoRA that names its concept in SPM's way (metadata "prompts") Facilitated Transport.

    Raises:
        LoadError: it cannot be read, is of no known layout, has keys without a place here, or changes nothing, or two
            networks.
    """
    if not path.exists():
        raise LoadError(f"{path} does not exist. Check the path.")
    if path.suffix in PICKLED:
        with tempfile.TemporaryDirectory() as folder:
            return _load(_unpickled(path, Path(folder)), path, bundle, transport)
    deltas, unchanged = [], None
    for file in _weights_files(path):
        try:
            deltas.append(_load(file, path if path.is_file() else file.parent, bundle, transport))
        except UnchangedError as error:
            unchanged = error
    return _only(deltas, path, unchanged)


def _only(deltas: list[WeightDelta], path: Path, unchanged: UnchangedError | None) -> WeightDelta:
    if unchanged is not None and not deltas:
        raise unchanged
    if len(deltas) > 1:
        raise LoadError(
            f"{path} changes the {' and the '.join(delta.part for delta in deltas)}, and an adapter changes one "
            "network. Import the file of each by itself, or use the whole as a checkpoint of its own."
        )
    return deltas[0]


def _load(file: Path, path: Path, bundle: ModelBundle, transport: bool) -> WeightDelta:
    """`file` is what is read, `path` what it is called."""
    header, metadata = _header(file, path)
    if "kind" in metadata:  # one of ours
        delta = load_delta(file)
        with applied(bundle, delta):
            return delta
    kept = {key: metadata[key] for key in ("prompts",) if key in metadata}
    (factors_of if is_lora(header) else _by_part)(header, path, bundle)
    tensors = _read(file, path)
    if is_lora(header):
        delta = lora_of({key: value.float() for key, value in tensors.items()}, metadata, path, bundle)
        names = [name.strip() for name in metadata.get("prompts", "").split(",") if name.strip()]
        kept |= transport_metadata(names) if transport and names else {}
        kept |= part_metadata(bundle.family.denoiser)
    else:
        delta = _edited(tensors, path, bundle)
    delta = WeightDelta(delta.kind, delta.tensors, {**delta.metadata, **kept})
    with applied(bundle, delta):  # raises where shapes do not fit
        return delta


# Files


def _weights_files(path: Path) -> list[Path]:
    """The files that hold a folder's networks, or the file itself."""
    if path.is_file():
        return [path]
    files: list[Path] = []
    for folder in (*(path / part for part in PARTS), path):
        found = sorted(folder.glob("*.safetensors"))
        if folder == path and files:
            break
        if len(found) > 1:
            raise LoadError(f"{folder} holds {len(found)} safetensors files. Name the one that holds the network.")
        files += found
    if not files:
        raise LoadError(
            f"{path} holds no .safetensors file of a UNet, transformer or text encoder. Name a file, or a diffusers "
            "folder with one."
        )
    return files


@contextmanager
def _opened(file: Path, path: Path) -> Iterator[Any]:
    """A safetensors file. Raises LoadError."""
    try:
        with safe_open(file, framework="pt", device="cpu") as opened:
            yield opened
    except (SafetensorError, OSError) as error:
        raise LoadError(
            f"{path} is not a whole safetensors file ({error}). Copy it again; a pickled state dict must end in "
            f"{', '.join(PICKLED)}."
        ) from error


def _header(file: Path, path: Path) -> tuple[Tensors, dict[str, str]]:
    """Tensors of the file's names and shapes that hold nothing, and its metadata."""
    with _opened(file, path) as opened:
        shapes = {key: opened.get_slice(key).get_shape() for key in opened.keys()}  # noqa: SIM118 (not a dict)
        metadata = dict(opened.metadata() or {})
    if not shapes:
        raise LoadError(f"{path} holds 0 tensors. Get a whole copy.")
    return {key: torch.empty(shape, device="meta") for key, shape in shapes.items()}, metadata


def _read(file: Path, path: Path) -> Tensors:
    """Tensors in float32, or in half precision where they are kept so."""
    with _opened(file, path) as opened:
        tensors = {key: opened.get_tensor(key) for key in opened.keys()}  # noqa: SIM118 (not a dict)
    tensors = {key: value if value.dtype in HALF else value.float() for key, value in tensors.items()}
    if broken := [key for key, value in tensors.items() if not torch.isfinite(value).all()]:
        raise LoadError(f"{path} holds values that are not finite, in {broken[0]}. Get a whole copy.")
    return tensors


def _unpickled(path: Path, folder: Path) -> Path:
    """The pickled state dict as safetensors, made by a child process. Raises LoadError."""
    target = folder / "weights.safetensors"
    command = [sys.executable, "-m", "models.unpickle", str(path.resolve()), str(target)]
    root = Path(__file__).resolve().parent.parent
    try:
        done = subprocess.run(command, cwd=root, capture_output=True, text=True, timeout=UNPICKLE_SECONDS, check=False)
    except subprocess.TimeoutExpired as error:
        raise LoadError(f"{path} was not read within {UNPICKLE_SECONDS} s. Get it as .safetensors.") from error
    if done.returncode:
        cause = (done.stderr.strip().splitlines() or ["the process was killed"])[-1]
        raise LoadError(f"{path} is pickled and cannot be read safely: {cause}. Get it as .safetensors.")
    return target


# Weights


def _edited(tensors: Tensors, path: Path, bundle: ModelBundle) -> WeightDelta:
    """The change of the one network that differs; a whole checkpoint's decoder is left alone."""
    found, unchanged = [], None
    for part, weights in _by_part(tensors, path, bundle).items():
        try:
            found.append(_difference(weights, path, bundle, part))
        except UnchangedError as error:
            unchanged = error
    return _only(found, path, unchanged)


def _by_part(tensors: Tensors, path: Path, bundle: ModelBundle) -> dict[str, Tensors]:
    """The tensors by the networks they belong to and their names there. Raises LoadError where one has no place."""
    text = _text_weights(tensors, bundle)
    if any(key.startswith(ORIGINAL_LAYOUT) for key in tensors):
        others = _of_the_original_layout(tensors, path, bundle)
    else:
        others = {key: value for key, value in tensors.items() if key not in text and not key.endswith(_POSITIONS)}
    parts = {TEXT: _placed(((key, *text[key]) for key in text), path, bundle, TEXT)} if text else {}
    if others or not text:
        part = bundle.family.denoiser
        known = dict(bundle.network(part).named_parameters())
        named = ((key, without_prefix(key, known), value) for key, value in others.items())
        parts[part] = _placed(named, path, bundle, part)
    return parts


def _of_the_original_layout(tensors: Tensors, path: Path, bundle: ModelBundle) -> Tensors:
    """A UNet's tensors, all or some of them, in diffusers' names."""
    config = dict(bundle.denoiser.config)
    try:
        names = {ORIGINAL_LAYOUT + unet_key(name, config): name for name, _ in bundle.denoiser.named_parameters()}
    except (KeyError, IndexError):  # a network for which there is no such layout
        names = {}
    tensors = {key: value for key, value in tensors.items() if key.startswith(ORIGINAL_LAYOUT)}
    refuse_strange((key for key in tensors if key not in names), len(tensors), path, bundle)
    return {names[key]: value for key, value in tensors.items()}


def _text_weights(tensors: Tensors, bundle: ModelBundle) -> dict[str, tuple[str, torch.Tensor]]:
    """The tensors that have a place in the text encoder, by their keys: its name for each, and the tensor."""
    encoder = bundle.text_encoder
    if TEXT not in bundle.family.text_encoders or encoder is None:
        return {}
    if any(key.startswith(OPEN_CLIP) for key in tensors):
        tensors = convert_open_clip_checkpoint(encoder, dict(tensors), prefix=OPEN_CLIP)
    names = {name.removeprefix("text_model."): name for name, _ in encoder.named_parameters()}
    found = {}
    for key, value in tensors.items():
        name = key
        for prefix in _TEXT_PREFIXES:
            name = name.removeprefix(prefix)
        if name in names:
            found[key] = (names[name], value)
    return found


def _placed(named: Iterable[tuple[str, str, torch.Tensor]], path: Path, bundle: ModelBundle, part: str) -> Tensors:
    """A network's tensors by their names there, of keys, names and tensors. Raises LoadError."""
    weights, places = dict(bundle.network(part).named_parameters()), Places(path)
    for key, name, value in named:
        places.put(name, key, value)
    found = places.tensors
    refuse_strange((key for key in found if key not in weights), len(found), path, bundle)
    for name, value in sorted(found.items()):
        if value.shape != weights[name].shape:
            raise LoadError(
                f"{path} has {name} of shape {tuple(value.shape)}, {bundle.spec.name} has "
                f"{tuple(weights[name].shape)}. Load it in a project about the checkpoint that it was made from."
            )
    return found


def _difference(weights: Tensors, path: Path, bundle: ModelBundle, part: str) -> WeightDelta:
    """New minus original of the weights that differ by more than the rounding of either's half precision."""
    own = dict(bundle.network(part).named_parameters())
    changes = {}
    for name, value in sorted(weights.items()):
        here = own[name].detach().cpu()
        if not torch.equal(value, here.to(value.dtype)) and not torch.equal(value.to(here.dtype), here):
            changes[name] = value.float() - here.float()
    if not changes:
        raise UnchangedError(f"{path} changes nothing: all {len(weights)} weights are {bundle.spec.name}'s own.")
    return WeightDelta("weights", changes, part_metadata(part))
