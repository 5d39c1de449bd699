"""What an evaluation costs beside bare sampling: `make bench-eval`.

The embedded checkpoint and its detector. The bare side is diffusers' own StableDiffusionPipeline on the same weights,
prompts, steps, guidance and batch, without a seed a picture, detector, file or report. The evaluation is the job's
own code: pictures judged, kept as PNG, measured against the original, counted and written as a report. The rerun is
the same evaluation once more, which finds its pictures. Loading is left out on both sides; processor time is taken.
"""

from __future__ import annotations

import argparse
import tempfile
from pathlib import Path

import torch
from diffusers import DDIMScheduler, StableDiffusionPipeline

from benchmarks.bench_attacks import Clock
from benchmarks.result import print_result
from models.loading import TOYBOX_WEIGHTS
from studio.jobs import submit
from studio.progress import silent
from studio.records import Project
from studio.settings import Settings
from studio.store import Store
from studio.workflow import JobContext
from studio.workflow.evaluate import Evaluator, judged


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--n", type=int, default=40, help="pictures a cell; there are five")
    parser.add_argument("--batch-size", type=int, default=32)
    parser.add_argument("--rounds", type=int, default=3, help="how often both sides are measured; the fastest counts")
    options = parser.parse_args()
    torch.set_num_threads(1)
    clock = Clock(torch.device("cpu"))
    with tempfile.TemporaryDirectory() as folder:
        settings = Settings(data=Path(folder) / "data", device="cpu", threads=1)
        settings.create_folders()
        store = Store(settings.database)
        evaluator = prepared(store, settings, options.n, options.batch_size)
        pipeline = bare_pipeline()
        prompts = [item.prompt for item in evaluator.items]
        bare, whole, again = [], [], []
        for round_ in range(options.rounds):
            bare.append(clock.time(lambda: sample(pipeline, prompts, evaluator)))
            context = context_of(store, settings, options.n, options.batch_size, seed=round_)
            whole.append(clock.time(lambda context=context: measure(context, evaluator)))
            rerun = context_of(store, settings, options.n, options.batch_size, seed=round_)
            again.append(clock.time(lambda rerun=rerun: measure(rerun, evaluator)))
        store.close()
    ratios = {
        "evaluation_vs_bare_sampling": min(bare) / min(whole),
        "cached_rerun_speedup": min(whole) / min(again),
    }
    seconds = {"bare": min(bare), "evaluation": min(whole), "rerun": min(again)}
    print_result(
        "eval", ratios, seconds={key: round(value, 3) for key, value in seconds.items()}, pictures=len(prompts)
    )


def prepared(store: Store, settings: Settings, n: int, batch_size: int) -> Evaluator:
    """An evaluation whose checkpoint and detector are loaded, for the others to share."""
    evaluator = Evaluator(context_of(store, settings, n, batch_size, seed=999))
    evaluator.drawer.bundle("toybox").generate(["a knight"], [0], steps=1)
    evaluator.detector.detect(evaluator.drawer.bundle("toybox").generate(["a knight"], [0], steps=1).images)
    return evaluator


def context_of(store: Store, settings: Settings, n: int, batch_size: int, seed: int) -> JobContext:
    """An evaluation of the original alone: every picture is drawn and judged once."""
    project = next(iter(store.list_projects()), None) or store.create_project(
        Project("", "Sword", "sword", "toybox", "toybox", {"concept": "sword"})
    )
    config = {"n": n, "batch_size": batch_size, "seed": seed, "oracle": False}
    job = submit(store, settings, "evaluate", project.id, config)
    return JobContext(store, settings, job, job.config, silent)


def measure(context: JobContext, loaded: Evaluator) -> None:
    """The job's work, with what is loaded already."""
    evaluator = Evaluator(context)
    evaluator.drawer.bundles, evaluator.detector = loaded.drawer.bundles, loaded.detector
    judged(context, evaluator)


def sample(pipeline: StableDiffusionPipeline, prompts: list[str], evaluator: Evaluator) -> None:
    config = evaluator.config
    for start in range(0, len(prompts), config.batch_size):
        pipeline(
            prompts[start : start + config.batch_size],
            num_inference_steps=config.steps,
            guidance_scale=config.guidance_scale,
            output_type="np",
        )


def bare_pipeline() -> StableDiffusionPipeline:
    pipeline = StableDiffusionPipeline.from_pretrained(TOYBOX_WEIGHTS, local_files_only=True, safety_checker=None)
    pipeline.scheduler = DDIMScheduler.from_config(pipeline.scheduler.config)
    pipeline.set_progress_bar_config(disable=True)
    return pipeline


if __name__ == "__main__":
    main()
