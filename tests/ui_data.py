"""A finished evaluation as the page finds it in the store: invented figures, one picture a model."""

from __future__ import annotations

from PIL import Image

from studio.records import Evaluation, ImagePair, Job, Project, PromptPair, Verdict
from studio.reports.html import write_html
from studio.reports.schema import DetectorInfo, Distance, GalleryRow, ModelReport, Shot, StudyReport
from studio.reports.statistics import wilson
from studio.settings import Settings
from studio.store import Store


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
