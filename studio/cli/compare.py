"""`compare`: the same prompts and seeds by several models, as one PNG."""

from __future__ import annotations

import json
import tempfile
from pathlib import Path
from typing import Annotated

import numpy as np
import typer
from PIL import Image
from rich.console import Console

from models.specs import TOYBOX, TOYBOX_ORACLE, parse_reference
from studio.cli.options import CommandError, get_project, open_store
from studio.configs import SamplingConfig
from studio.evaluation_checks import models_named
from studio.inference.client import Cell, InferenceClient, ModelChoice, RenderRequest, RenderResult
from studio.records import Project
from studio.reports.grid import Grid, compose_grid
from studio.store import NotFoundError, Store

DEFAULT = SamplingConfig()


def register(app: typer.Typer) -> None:
    app.command()(compare)


def compare(
    prompts: Annotated[list[str], typer.Argument(help="One or more prompts.", metavar="PROMPT...")],
    model: Annotated[
        list[str],
        typer.Option(
            help="Twice or more: original, oracle, a trained checkpoint's id or name, toybox, a folder, owner/name@rev."
        ),
    ],
    project: Annotated[str | None, typer.Option("--project", "-p", help="Whose original, names and detector.")] = None,
    seed: Annotated[list[int] | None, typer.Option(help="Seed; may be given several times.")] = None,
    out: Annotated[Path, typer.Option(help="The PNG to write.")] = Path("compare.png"),
    steps: Annotated[int, typer.Option(min=1, help="Denoising steps.")] = DEFAULT.steps,
    guidance_scale: Annotated[float, typer.Option(min=1, help="Guidance.")] = DEFAULT.guidance_scale,
) -> None:
    """Draw the same prompts and seeds by two or more models; one PNG that also says how it was made."""
    if len(model) < 2:
        raise CommandError(f"{len(model)} model is nothing to compare; give --model twice or more.")
    settings, store = open_store()
    owner = get_project(store, project) if project else None
    choices = [choose_model(store, owner, text) for text in model]
    _check_out(out)
    detector, detector_settings = _detector(owner, choices)
    try:
        own = owner.id if owner else ""
        request = RenderRequest(choices, prompts, seed or [0], steps, guidance_scale, detector, detector_settings, own)
    except ValueError as error:
        raise CommandError(str(error)) from error
    client = InferenceClient(settings)
    try:
        with Console().status("Starting") as status:
            result = client.render_all(request, lambda p: status.update(f"{p.message} ({p.done} of {p.total})"))
    finally:
        client.close()
    if broken := [cell for cell in result.cells if cell.error]:
        raise CommandError(f"{choices[broken[0].model].label}: {broken[0].error}")
    grid_of(request, result).save(out)
    for cell in result.cells:
        print(f"{choices[cell.model].label:12}  seed {cell.seed}  {_verdict(cell) or 'no verdict'}  {cell.prompt}")
    if result.detector_error:
        print(f"No verdicts: {result.detector_error}")
    print(f"Wrote {out}")


def choose_model(store: Store, project: Project | None, text: str) -> ModelChoice:
    """The column that a word on the command line means."""
    base = project.checkpoint if project else TOYBOX
    if text == "original":
        return ModelChoice("Original", base)
    if text == "oracle":
        return ModelChoice("Oracle", TOYBOX_ORACLE)
    try:
        found = [store.get_checkpoint(text)]
    except NotFoundError:
        found = models_named(store.list_checkpoints(project.id if project else None), text)
    if len(found) > 1:
        raise CommandError(
            f"{len(found)} checkpoints are named {text!r}; give one's id: {', '.join(c.id for c in found)}."
        )
    if found:
        trained = found[0]
        reference = store.get_project(trained.project_id).checkpoint
        return ModelChoice(trained.name, reference, trained.path, trained.sha256)
    parse_reference(text)  # says what a name may be
    return ModelChoice(text, text)


def grid_of(request: RenderRequest, result: RenderResult) -> Grid:
    """One row a prompt and seed, one column a model. Raises CommandError where the models' pictures differ in size."""
    rows = [(prompt, seed) for prompt in request.prompts for seed in request.seeds]
    cells = [[result.cell(column, *row) for column in range(len(request.models))] for row in rows]
    pictures = [[_read(cell) for cell in row] for row in cells]
    sizes = {model.label: picture.shape[1::-1] for model, picture in zip(request.models, pictures[0], strict=True)}
    if len(set(sizes.values())) > 1:
        each = ", ".join(f"{label} {width} x {height}" for label, (width, height) in sizes.items())
        raise CommandError(f"The models' pictures differ in size ({each}); compare models of one size.")
    metadata = {
        "models": json.dumps([vars(model) for model in request.models]),
        "prompts": json.dumps(request.prompts),
        "seeds": json.dumps(request.seeds),
        "steps": request.steps,
        "guidance_scale": request.guidance_scale,
        "detector": result.detector,
        "verdicts": json.dumps([[_verdict(cell) for cell in row] for row in cells]),
    }
    return compose_grid(
        np.stack([np.stack(row) for row in pictures]),
        [f"{prompt} · seed {seed}" for prompt, seed in rows],
        [model.label for model in request.models],
        metadata,
        [[_verdict(cell) for cell in row] for row in cells],
    )


def _detector(project: Project | None, choices: list[ModelChoice]) -> tuple[str, dict[str, object]]:
    """The project's detector, or the embedded one for the embedded checkpoint."""
    if project:
        return project.detector, project.detector_settings
    embedded = all(parse_reference(choice.checkpoint_ref).kind == "toybox" for choice in choices)
    return ("toybox" if embedded else ""), {}


def _check_out(out: Path) -> None:
    """Find out before the drawing that the picture cannot be written. Raises CommandError or OSError."""
    if out.is_dir():
        raise CommandError(f"--out is the folder {out}; name a file in it, such as {out / 'compare.png'}.")
    out.parent.mkdir(parents=True, exist_ok=True)
    with tempfile.TemporaryFile(dir=out.parent):
        pass


def _verdict(cell: Cell) -> str:
    if cell.found is None or cell.score is None:
        return ""
    what = cell.facts.get("object") or ("found" if cell.found else "not found")
    return f"{what} · score {cell.score:.2f}"


def _read(cell: Cell) -> np.ndarray:
    with Image.open(cell.image) as image:
        return np.asarray(image.convert("RGB"))
