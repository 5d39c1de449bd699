"""Rebuild the embedded checkpoint from a seed: `python -m models.toybox.train --out models/toybox/weights`.

Stages: tokenizer, text (encoder), vae, detector, unet, oracle, pack. Each writes into `--work` and is skipped when its
result is there, so a stopped run goes on where it was; `--stages text,vae` runs only some. The stages `text` and
`vae` do not need each other, nor do `unet` and `oracle`: run them as two processes of one thread each.
"""

from __future__ import annotations

import argparse
import shutil
import sys
import time
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import torch
from diffusers import AutoencoderKL, StableDiffusionPipeline, UNet2DConditionModel
from transformers import CLIPTextModel, CLIPTokenizer

from models.toybox.autoencoder import encode_all, train_autoencoder
from models.toybox.data import SceneBank, make_bank
from models.toybox.denoiser import LatentTrainer, make_scheduler
from models.toybox.detector import save_detector, train_detector
from models.toybox.text import train_text_encoder, train_tokenizer

BANK_SIZE = 30_000


@dataclass(frozen=True)
class Recipe:
    """What the shipped weights were trained with."""

    seed: int = 0
    text_steps: int = 900
    text_batch: int = 256
    vae_steps: int = 2000
    vae_batch: int = 32
    unet_steps: int = 3000
    unet_batch: int = 64
    unet_learning_rate: float = 1.5e-3
    detector_steps: int = 1500
    detector_batch: int = 64


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--work", type=Path, default=Path("toybox-work"), help="intermediate results")
    parser.add_argument("--out", type=Path, default=Path(__file__).parent / "weights", help="the finished folder")
    parser.add_argument("--stages", default="tokenizer,text,vae,detector,unet,oracle,pack")
    parser.add_argument("--seed", type=int, default=0)
    parser.add_argument("--threads", type=int, default=0, help="torch threads; 0: all cores")
    options = parser.parse_args()
    if options.threads:
        torch.set_num_threads(options.threads)
    options.work.mkdir(parents=True, exist_ok=True)
    recipe = Recipe(seed=options.seed)
    for name in options.stages.split(","):
        if name not in STAGES:
            sys.exit(f"There is no stage {name!r}; the stages are {', '.join(STAGES)}.")
        STAGES[name](recipe, options.work, options.out)


def progress(stage: str) -> Callable[[int, int, str], None]:
    """A reporter that prints one line with the time left."""
    started = time.monotonic()

    def report(step: int, total: int, message: str) -> None:
        seconds = time.monotonic() - started
        left = seconds / step * (total - step)
        print(f"{stage} {step}/{total} {message} [{seconds:.0f} s, {left:.0f} s left]", flush=True)

    return report


def tokenizer_stage(recipe: Recipe, work: Path, out: Path) -> None:
    if (work / "tokenizer").exists():
        return
    bank, rng = make_bank(4000, recipe.seed + 1), np.random.default_rng(recipe.seed)
    captions = [text for _ in range(10) for text in bank.captions(np.arange(4000), rng)]
    train_tokenizer(captions, work / "tokenizer")


def text_stage(recipe: Recipe, work: Path, out: Path) -> None:
    if (work / "text_encoder").exists():
        return
    encoder = train_text_encoder(
        _bank(recipe),
        CLIPTokenizer.from_pretrained(work / "tokenizer"),
        steps=recipe.text_steps,
        batch_size=recipe.text_batch,
        seed=recipe.seed,
        report=progress("text"),
    )
    encoder.save_pretrained(work / "text_encoder")


def vae_stage(recipe: Recipe, work: Path, out: Path) -> None:
    if (work / "vae").exists():
        return
    vae = train_autoencoder(
        _bank(recipe), steps=recipe.vae_steps, batch_size=recipe.vae_batch, seed=recipe.seed, report=progress("vae")
    )
    vae.save_pretrained(work / "vae")


def detector_stage(recipe: Recipe, work: Path, out: Path) -> None:
    if (work / "detector.safetensors").exists():
        return
    net = train_detector(
        _bank(recipe),
        steps=recipe.detector_steps,
        batch_size=recipe.detector_batch,
        seed=recipe.seed,
        report=progress("detector"),
    )
    save_detector(net, work / "detector.safetensors")


def unet_stage(recipe: Recipe, work: Path, out: Path) -> None:
    _train_unet(recipe, work, "unet", oracle=False)


def oracle_stage(recipe: Recipe, work: Path, out: Path) -> None:
    """The same training on the same scenes and captions, but no sword is ever drawn."""
    _train_unet(recipe, work, "oracle", oracle=True)


def _train_unet(recipe: Recipe, work: Path, name: str, *, oracle: bool) -> None:
    if (work / name).exists():
        return
    bank = _bank(recipe, oracle=oracle)
    trainer = LatentTrainer(
        encode_all(AutoencoderKL.from_pretrained(work / "vae"), bank.pictures),
        bank,
        CLIPTokenizer.from_pretrained(work / "tokenizer"),
        CLIPTextModel.from_pretrained(work / "text_encoder"),
        steps=recipe.unet_steps,
        batch_size=recipe.unet_batch,
        learning_rate=recipe.unet_learning_rate,
        seed=recipe.seed,
    )
    trainer.train(progress(name), snapshot=work / f"{name}-snapshot")
    trainer.average.save_pretrained(work / name)


def pack_stage(recipe: Recipe, work: Path, out: Path) -> None:
    """Put the pipeline, the oracle's UNet and the detector together, in half precision."""
    pipeline = StableDiffusionPipeline(
        vae=AutoencoderKL.from_pretrained(work / "vae"),
        text_encoder=CLIPTextModel.from_pretrained(work / "text_encoder"),
        tokenizer=CLIPTokenizer.from_pretrained(work / "tokenizer"),
        unet=UNet2DConditionModel.from_pretrained(_finished_or_snapshot(work, "unet")),
        scheduler=make_scheduler(),
        safety_checker=None,
        feature_extractor=None,
        requires_safety_checker=False,
    )
    pipeline.to(torch.float16).save_pretrained(out, safe_serialization=True)
    # transformers loads a text encoder in the type its config names, diffusers the rest in float32: name float32.
    config = out / "text_encoder" / "config.json"
    config.write_text(config.read_text(encoding="utf-8").replace('"float16"', '"float32"'), encoding="utf-8")
    oracle = UNet2DConditionModel.from_pretrained(_finished_or_snapshot(work, "oracle"))
    oracle.to(torch.float16).save_pretrained(out / "oracle")
    shutil.copy(work / "detector.safetensors", out / "detector.safetensors")


def _finished_or_snapshot(work: Path, name: str) -> Path:
    return work / name if (work / name).exists() else work / f"{name}-snapshot"


def _bank(recipe: Recipe, *, oracle: bool = False) -> SceneBank:
    return make_bank(BANK_SIZE, recipe.seed, oracle=oracle)


STAGES: dict[str, Callable[[Recipe, Path, Path], None]] = {
    "tokenizer": tokenizer_stage,
    "text": text_stage,
    "vae": vae_stage,
    "detector": detector_stage,
    "unet": unet_stage,
    "oracle": oracle_stage,
    "pack": pack_stage,
}

if __name__ == "__main__":
    main()
