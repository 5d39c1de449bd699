"""What the page finds in the store, invented: a finished evaluation, trained models, comparisons."""

from __future__ import annotations

import hashlib
from dataclasses import replace
from typing import Any

from PIL import Image

from studio.inference.client import Cell, ModelChoice, RenderRequest
from studio.records import Checkpoint, Evaluation, ImagePair, Job, Project, PromptPair, Verdict
from studio.reports.html import write_html
from studio.reports.schema import DetectorInfo, Distance, GalleryRow, ModelReport, Shot, StudyReport
from studio.reports.statistics import wilson
from studio.settings import Settings
from studio.store import Store
from studio.ui.results import Comparison


def make_report() -> StudyReport:
    """Original and DUO, 200 pictures a cell."""
    shots = {key: Shot(picture="pictures/1.png", found=key == "original", score=0.5) for key in ("original", "duo")}
    return StudyReport(
        checkpoint="toybox",
        concept="sword",
        seed=0,
        n=200,
        models={"original": _model("Original", 197, 190, None), "duo": _model("DUO", 3, 188, 90.0)},
        detector=DetectorInfo(name="toybox", version="1", settings={}),
        sampling={"steps": 20, "guidance_scale": 4.0},
        gallery=[GalleryRow(cell="named", prompt="a <b>", seed=1, shots=shots)],
        created="2026-11-25T21:00:00+00:00",
    )


def add_evaluation(store: Store, settings: Settings, project: Project) -> Evaluation:
    """Put the report, its page and its picture into the data folder and the store."""
    folder = settings.evaluations / "first"
    (folder / "pictures").mkdir(parents=True)
    Image.new("RGB", (64, 64), "teal").save(folder / "pictures" / "1.png")
    report = make_report()
    report.write(folder / "report.json")
    write_html(report, folder)
    job = store.create_job(Job("", project.id, "evaluate", {}))
    store.update_job(job.id, state="done")
    return store.add_evaluation(Evaluation("", project.id, job.id, str(folder), report.model_dump()))


def _model(label: str, seen: int, kept: int, seconds: float | None) -> ModelReport:
    return ModelReport(
        concept_rate={"named": wilson(seen, 200), "held_out": wilson(seen, 200)},
        retention={"object": wilson(kept, 200)},
        distance=Distance(metric="rmse", mean=0.1),
        train_seconds=seconds,
        config={},
        label=label,
        method=label.lower(),
    )


def add_accepted_pairs(store: Store, settings: Settings, project: Project, count: int) -> list[ImagePair]:
    """Accepted pairs with random latents in the tiny and the embedded checkpoint's shape, without pictures."""
    import torch
    from safetensors.torch import save_file

    generator = torch.Generator().manual_seed(0)
    (prompt,) = store.add_prompt_pairs([PromptPair("", project.id, "a knight", "a gardener", count)])
    pairs = []
    for index in range(count):
        pair = store.add_image_pair(ImagePair("", project.id, prompt.id, index, index, "ready"))
        both = {side: torch.randn(8, 8, 8, generator=generator) for side in ("unsafe", "safe")}
        save_file(both, settings.latents / f"{pair.id}.safetensors")
        store.add_verdict(Verdict("", pair.id, "Ann", "accept"))
        pairs.append(pair)
    return pairs


def add_checkpoint(store: Store, project: Project, method: str, name: str) -> Checkpoint:
    """A trained model's row, by a job of its own; its file is not there."""
    job = store.create_job(Job(id="", project_id=project.id, kind="train", config={}))
    sha256 = hashlib.sha256(name.encode()).hexdigest()
    return store.add_checkpoint(
        Checkpoint("", project.id, job.id, method, name, path=f"/data/{name}.safetensors", sha256=sha256, kind="lora")
    )


def comparison(
    *cells: Cell, models: list[ModelChoice] | None = None, prompts: tuple[str, ...] = ("a knight",)
) -> Comparison:
    """Original and DUO on one seed."""
    models = models or [ModelChoice("Original", "toybox"), ModelChoice("DUO", "toybox", "/d", "ab" * 32)]
    return Comparison("sword", RenderRequest(models, list(prompts), [7]), cells)


def cell(model: int, found: bool, prompt: str = "a knight", **changes: Any) -> Cell:
    """One picture of a comparison, judged."""
    made = Cell(model, prompt, 7, "/x.png", f"{model:064x}", found, 0.97 if found else 0.01, seconds=0.4)
    return replace(made, **changes)
