"""Checkpoints that are one `.safetensors` file in the original layout. The hub is never asked."""

from __future__ import annotations

import json
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import torch
from diffusers.loaders.single_file_utils import SingleFileComponentError
from transformers import CLIPTokenizer, T5TokenizerFast

from models.families import FAMILIES, get_family
from models.families.base import Family
from models.file_kind import KINDS, T5, Header, check_whole, kind_of, prediction_of, read_header
from models.specs import LoadError

CONFIGS = Path(__file__).resolve().parent / "configs"  # one folder a kind of checkpoint, without weights
VOCABULARY = "clip_tokenizer"  # in it, the one that all CLIP tokenizers share
_OPTIONS = ("force_zeros_for_empty_prompt",)  # of model_index.json, that change what is drawn

Parts = tuple[dict[str, Any], dict[str, Any], dict[str, Any]]  # parts, the scheduler's configuration, the options


@dataclass(frozen=True)
class SingleFile:
    """A file whose header was read: what it is, and with whose configurations it is loaded."""

    header: Header
    family: Family
    configs: Path  # a pipeline's folder
    prediction: str = ""  # "epsilon" | "v_prediction"; "": as the configurations say
    note: str = ""  # what was decided here and may be otherwise, in a sentence

    @property
    def shipped(self) -> bool:
        """Whether the configurations are the studio's own, which have one vocabulary between them."""
        return self.configs.parent == CONFIGS

    def load(self, dtype: torch.dtype) -> Parts:
        """Raises LoadError where the weights do not fit the configurations."""
        try:
            given = self._given()
            pipeline = self.family.pipeline.from_single_file(
                str(self.header.path), torch_dtype=dtype, config=str(self.configs), local_files_only=True, **given
            )
        except (OSError, ValueError, RuntimeError, KeyError, SingleFileComponentError) as error:
            raise LoadError(
                f"{self.header.path} cannot be loaded as {self.family.title}: {error}. "
                f"Is it the checkpoint that the configs in {self.configs} belong to?"
            ) from error
        names = ("vae", self.family.denoiser, *self.family.text_encoders, *self.family.tokenizers)
        scheduler = dict(pipeline.scheduler.config)
        if self.prediction:
            scheduler["prediction_type"] = self.prediction
        if "ztsnr" in self.header.shapes:  # with "v_pred", how fine-tunes of XL say that their last step is all noise
            scheduler["rescale_betas_zero_snr"] = True
        options = {key: value for key, value in pipeline.config.items() if key in _OPTIONS}
        return {name: getattr(pipeline, name) for name in names}, scheduler, options

    def _given(self) -> dict[str, Any]:
        """What the pipeline's class is not to look for in the file or its configurations."""
        given: dict[str, Any] = {}
        if self.family.name in ("sd1", "sd2"):
            given |= {"safety_checker": None, "requires_safety_checker": False}
        if not self.shipped:
            return given
        for name, tokenizer in self.family.tokenizers.items():
            if tokenizer is CLIPTokenizer:
                given[name] = shipped_tokenizer(self.configs / name)
        if self.family.name == "sd3":
            folder = _t5_tokenizer(self.header)
            given["tokenizer_3"] = None if folder is None else T5TokenizerFast.from_pretrained(folder)
            given |= {"text_encoder_3": None} if folder is None else {}
        return given


def read_single_file(path: Path, prediction: str = "") -> SingleFile:
    """What a file is, from its header.

    Its configurations come from a pipeline folder of the same name beside it, else from those that the studio ships.

    Args:
        path: the file.
        prediction: "epsilon" or "v_prediction", where the person says so.

    Raises:
        LoadError: the file is missing, damaged, of no family that is supported, or not whole.
    """
    header = read_header(path)
    own = _family_beside(path.with_suffix(""))
    kind = kind_of(header) if own is None else ""
    if own is None:
        check_whole(header, kind)
    family = own or get_family(KINDS[kind])
    if prediction and family.denoiser != "unet":
        raise LoadError(f"{path} is {family.title}, a flow: it predicts nothing else. Leave out #{prediction}.")
    if own is not None:
        return SingleFile(header, own, path.with_suffix(""), prediction)
    if family.denoiser != "unet":
        return SingleFile(header, family, CONFIGS / kind, note=_t5_note(header))
    found, how = (prediction, "as asked") if prediction else prediction_of(header, kind)
    folder = "v2_base" if (kind, found) == ("v2", "epsilon") else kind
    return SingleFile(header, family, CONFIGS / folder, found, _prediction_note(kind, found, how))


def shipped_tokenizer(folder: Path) -> CLIPTokenizer:
    """CLIP's tokenizer with the options (padding, length) of one checkpoint's folder."""
    options = json.loads((folder / "tokenizer_config.json").read_text(encoding="utf-8"))
    return CLIPTokenizer.from_pretrained(folder.parent.parent / VOCABULARY, **options)


def _family_beside(folder: Path) -> Family | None:
    """The family of the pipeline folder beside a file; None where there is no folder, or of another family."""
    index = folder / "model_index.json"
    if not index.is_file():
        return None
    if pickled := next((file for file in sorted(folder.rglob("*")) if file.suffix in (".bin", ".pt", ".ckpt")), None):
        raise LoadError(f"{pickled} is pickled, which can run code when it is opened. Take it out of {folder}.")
    name = json.loads(index.read_text(encoding="utf-8")).get("_class_name")
    return next((family for family in FAMILIES if family.pipeline.__name__ == name), None)


def _t5_tokenizer(header: Header) -> Path | None:
    """The folder of T5's tokenizer, which is not shipped; None where it or T5 itself is missing."""
    folder = header.path.with_suffix("") / "tokenizer_3"
    return folder if T5 in header.shapes and folder.is_dir() else None


def _t5_note(header: Header) -> str:
    if T5 not in header.shapes:
        return "The file has no T5: prompts are read by both CLIP text encoders alone."
    if _t5_tokenizer(header) is not None:
        return ""
    return (
        "The file's T5 is left out, since its tokenizer is not shipped: prompts are read by both CLIP text encoders "
        f"alone. For T5 put the tokenizer_3 folder of Stable Diffusion 3 into {header.path.with_suffix('')}."
    )


def _prediction_note(kind: str, prediction: str, how: str) -> str:
    """Nothing where the kind leaves no doubt."""
    if kind != "v2" and prediction == "epsilon":
        return ""
    what = "v" if prediction == "v_prediction" else "noise (epsilon)"
    pixels = {"v_prediction": ", 768 pixels", "epsilon": ", 512 pixels"}[prediction] if kind == "v2" else ""
    other = "epsilon" if prediction == "v_prediction" else "v_prediction"
    return f"Taken as a checkpoint that predicts {what}{pixels}, {how}. For the other, end its name with #{other}."
