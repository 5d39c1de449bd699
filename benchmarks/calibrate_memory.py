"""How much memory a training step really takes, and how fast it is: what `studio/calibration.json` holds.

    python -m benchmarks.calibrate_memory

Counts the published shapes (see `counting`), runs real steps of DUO on random weights in these shapes, each in a
process of its own on one thread, and fits the few numbers by which `studio.estimates` goes from the one to the other.
Memory is the process's highest resident size from the loaded model on. Linux on a CPU; a GPU was never measured.
"""

from __future__ import annotations

import argparse
import datetime
import json
import math
import os
import statistics
import subprocess
import sys
import time
from contextlib import ExitStack
from pathlib import Path
from typing import Any

import diffusers
import numpy as np
import torch
from diffusers import AutoencoderKL
from scipy.optimize import nnls
from transformers import CLIPTextConfig, T5EncoderModel

from benchmarks import counting
from benchmarks.bench_attacks import filled, letter_tokenizer
from models.adapters import attach_lora
from models.bundle import ModelBundle, checkpointed
from models.families import get_family
from models.loading import DTYPES
from models.specs import ModelSpec
from studio import estimates
from studio.devices import matmul_rate
from studio.methods.base import TrainingPairs, silent
from studio.methods.duo import DuoStep
from studio.methods.parallel import Group
from studio.methods.training import Loop
from studio.settings import REPOSITORY
from studio.shapes import CALIBRATION, calibration
from studio.training_configs import DuoConfig

PLAIN = {"dtype": "float32", "micro_batch_size": 0, "gradient_checkpointing": False, "park_in_a_file": False,
         "layers": "self-attention", "noise_bank": 0}  # fmt: skip
CHECKPOINTED, ONE = {"gradient_checkpointing": True}, {"micro_batch_size": 1}
PARKED, HALF = {"park_in_a_file": True}, {"dtype": "bfloat16"}
CASES: list[dict[str, Any]] = [
    {**PLAIN, "shape": shape, "pixels": pixels, "batch_size": pairs, **changes}
    for shape, pixels, pairs, changes in (
        ("toybox", 64, 8, {}),
        ("toybox", 64, 32, {}),
        ("toybox", 64, 64, {}),
        ("toybox", 64, 64, CHECKPOINTED),
        ("toybox", 64, 64, ONE),
        ("sd1", 128, 1, {}),
        ("sd1", 128, 4, {}),
        ("sd1", 128, 4, ONE),
        ("sd1", 128, 4, CHECKPOINTED),
        ("sd1", 128, 4, {"layers": "attention+ff"}),
        ("sd1", 256, 1, {}),
        ("sd1", 256, 2, {}),
        ("sd1", 256, 2, CHECKPOINTED),
        ("sd1", 256, 1, {"noise_bank": 1}),
        ("sd1", 256, 1, {**CHECKPOINTED, **PARKED}),
        ("sdxl", 256, 1, HALF),
        ("sdxl", 256, 1, {**HALF, **CHECKPOINTED}),
        ("sd3", 256, 1, HALF),
        ("sd3", 256, 1, {**HALF, **CHECKPOINTED}),
    )
]


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--case", type=int, help="measure this case in this process")
    parser.add_argument("--shape", help="count this shape in this process")
    parser.add_argument("--keep", type=Path, help="a folder in which finished cases and shapes wait for another try")
    options = parser.parse_args()
    diffusers.utils.logging.set_verbosity_error()
    if options.case is not None:
        print(json.dumps(measured(CASES[options.case])))
        return
    if options.shape:
        print(json.dumps(counting.shape(options.shape)))
        return
    shapes = {name: apart("--shape", name, options.keep) for name in counting.SHAPES}
    rows = [{**case, **apart("--case", str(number), options.keep)} for number, case in enumerate(CASES)]
    found = {
        "date": datetime.datetime.now(datetime.UTC).date().isoformat(),
        "machine": f"{os.cpu_count()}-core CPU, one thread, PyTorch {torch.__version__.partition('+')[0]}",
        "shapes": shapes,
        "measured": rows,
    }
    found["fit"] = fitted(found)
    found["methods"] = calibration().get("methods", [])  # of calibrate_methods
    CALIBRATION.write_text(json.dumps(found, indent=1) + "\n", encoding="utf-8")
    print(json.dumps(found["fit"]))


def apart(option: str, value: str, keep: Path | None) -> dict[str, Any]:
    """What this script prints in a process of its own, or did in an earlier try."""
    kept = keep / f"{option.strip('-')}-{value}.json" if keep else None
    if kept is not None and kept.is_file():
        return dict(json.loads(kept.read_text(encoding="utf-8")))
    command = [sys.executable, "-W", "ignore", "-m", "benchmarks.calibrate_memory", option, value]
    environment = {**os.environ, "OMP_NUM_THREADS": "1", "OPENBLAS_NUM_THREADS": "1"}
    done = subprocess.run(command, cwd=REPOSITORY, check=True, stdout=subprocess.PIPE, text=True, env=environment)
    line = done.stdout.strip().splitlines()[-1]
    print(option, value, line[:200], flush=True)
    if kept is not None:
        kept.write_text(line, encoding="utf-8")
    return dict(json.loads(line))


def measured(case: dict[str, Any]) -> dict[str, float]:
    """Bytes before the step and at its peak, seconds of the processor, FLOP/s of a plain matrix product just now."""
    torch.set_num_threads(1)
    bundle = random_bundle(case["shape"], case["pixels"], case["dtype"])
    own = {name: value for name, value in case.items() if name in DuoConfig.model_fields}
    config = DuoConfig(learning_rate=6e-5, beta=500.0, prior_weight=5e6, **own)
    latents = torch.randn(2, config.batch_size, *bundle.latent_shape)
    rate = matmul_rate()
    before = memory("VmRSS")
    Path("/proc/self/clear_refs").write_text("5")  # the highest size is counted from here on
    targets = bundle.family.lora_targets[config.layers]
    parameters = attach_lora(bundle, rank=config.rank, alpha=config.alpha, targets=targets, seed=0)
    step = DuoStep(bundle, TrainingPairs(latents[0], latents[1]), config)
    step.fill_bank(silent, None)
    with ExitStack() as stack:
        stack.enter_context(bundle.parked(config.park_in_a_file))
        if config.park_in_a_file:
            Path("/proc/self/clear_refs").write_text("5")
        stack.enter_context(checkpointed(bundle, config.gradient_checkpointing))
        loop = Loop(parameters, step, config, Group())
        seconds = []
        for number in (1, 2):
            begun = time.process_time()
            loop.step(number)
            seconds.append(time.process_time() - begun)
            if seconds[0] > 4:
                break
        return {"before": before, "peak": memory("VmHWM"), "seconds": round(seconds[-1], 2), "rate": round(rate)}


def memory(name: str) -> float:
    """Bytes of this process, by Linux's name of them."""
    lines = Path("/proc/self/status").read_text().splitlines()
    return next(int(line.split()[1]) * 1024 for line in lines if line.startswith(name))


def random_bundle(name: str, pixels: int, dtype: str) -> ModelBundle:
    """Random weights in a shape; T5 is left out."""
    torch.manual_seed(0)
    family = get_family(counting.SHAPES[name][0])
    folder = REPOSITORY / counting.SHAPES[name][1]

    def made(kind: Any, config: Any) -> Any:
        build = kind if isinstance(config, CLIPTextConfig) else kind.from_config
        return filled(lambda: build(config).to(DTYPES[dtype]))

    texts: list[Any] = []
    for part, kind in family.text_encoders.items():
        clip = kind is not T5EncoderModel
        texts.append(made(kind, CLIPTextConfig.from_pretrained(folder / part)) if clip else None)
    tokenizers = tuple(None if text is None else letter_tokenizer() for text in texts)
    denoiser = made(family.denoiser_class, counting.configuration(name, family.denoiser))
    vae = made(AutoencoderKL, counting.configuration(name, "vae"))
    scheduler = {
        "num_train_timesteps": 1000,
        "beta_start": 0.00085,
        "beta_end": 0.012,
        "beta_schedule": "scaled_linear",
    }
    spec = ModelSpec(name, name, None, family.name, pixels, dtype)
    return ModelBundle(vae, tuple(texts), tokenizers, denoiser, scheduler, spec, torch.device("cpu"), DTYPES[dtype], {})


def fitted(found: dict[str, Any]) -> dict[str, Any]:
    """The numbers that make the least relative error of the peaks, and how large the largest one is left."""
    rows, table = found["measured"], found["shapes"]
    parts = [estimates.parts_of_case(row, table) for row in rows]
    process = statistics.median(
        row["before"] - part["weights"] - part["others"] for row, part in zip(rows, parts, strict=True)
    )
    peaks = np.array([row["peak"] for row in rows], dtype=float)
    on = np.array([row["gradient_checkpointing"] for row in rows], dtype=float)
    counted = np.array([part["activations"] for part in parts])
    nothing = {"process": process, "step": 0.0, "kept": 0.0, "checkpointed": 0.0, "error": 0.0}
    rest = np.array([estimates.memory(*estimates.case_of(row, table), nothing).peak for row in rows])
    columns = np.stack([np.ones(len(rows)), counted * (1 - on), counted * on], axis=1)
    solved = np.linalg.lstsq(columns / peaks[:, None], (peaks - rest) / peaks, rcond=None)[0]
    errors = np.abs(columns @ solved + rest - peaks) / peaks
    step, kept, again = (float(value) for value in solved)
    return {
        "process": round(process), "step": round(step), "kept": round(kept, 3), "checkpointed": round(again, 3),
        "error": math.ceil(float(errors.max()) * 100) / 100, "usual_error": round(float(np.median(errors)), 3),
        **fitted_time(rows, parts, table),
    }  # fmt: skip


def fitted_time(rows: list[dict[str, Any]], parts: list[dict[str, float]], table: dict[str, Any]) -> dict[str, Any]:
    """How efficient each shape is, and what a pass costs whatever its rows, as FLOPs of a plain matrix product."""
    where = [estimates.case_of(row, table)[1] for row in rows]
    names = [f"{one.shape.name} {'half' if one.half else 'single'}" for one in where]
    kinds = list(dict.fromkeys(names))
    columns = np.array([
        [*(part["flops"] * (name == kind) for kind in kinds), part["passes"],
         part["passes"] * one.shape.weights["denoiser"]]
        for part, name, one in zip(parts, names, where, strict=True)
    ])  # fmt: skip
    took = np.array([row["seconds"] * row["rate"] for row in rows])
    solved = nnls(columns / took[:, None], np.ones(len(rows)))[0]
    ratios = columns @ solved / took
    return {
        "efficiency": {kind: round(1 / float(value), 4) for kind, value in zip(kinds, solved, strict=False)},
        "pass": round(float(solved[-2])),
        "pass_by_weight": round(float(solved[-1]), 1),
        "time_error": math.ceil(float(np.maximum(ratios, 1 / ratios).max() - 1) * 100) / 100,
    }


if __name__ == "__main__":
    main()
