"""HTML of exports, and the route that gives out their files.

    /studio/exports/<job>/<file>

An export is asked for by its job, and only a file in the folder that the studio itself chose for it is given out.
"""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path
from typing import Any

from starlette.requests import Request
from starlette.responses import FileResponse, PlainTextResponse, Response
from starlette.routing import Route

from models.export_files import gigabytes
from studio.records import Checkpoint, Job
from studio.settings import Settings
from studio.store import NotFoundError, Store
from studio.ui.activity import progress_bar
from studio.ui.words import STATE_WORDS, ago, escape, left

LISTED = 6
FORMAT_WORDS = {
    "merged": "Merged, a diffusers folder",
    "single-file": "Merged, one file",
    "lora": "LoRA for diffusers",
    "kohya": "LoRA for ComfyUI and A1111",
}
READERS = {
    "merged": "diffusers and this studio read it.",
    "single-file": "ComfyUI, A1111 and diffusers read it; its configs lie beside it.",
    "lora": "diffusers and peft read it, with alpha and rank in its header.",
    "kohya": "ComfyUI, A1111 and diffusers read it, with the right alpha in it.",
}
MERGED = ("merged", "single-file")
WHY_MERGED = "The change becomes part of the weights, and nobody can simply take it off again. That is what to publish."
WHY_NOT_LORA = (
    "A LoRA can be taken off, scaled or negated by whoever holds it: then the concept is back. Publish merged, and "
    "keep a LoRA for yourself."
)
_LOOK = {"running": "gone", "done": "gone", "stopping": "unclear", "failed": "seen"}


def export_url(job_id: str, file: str) -> str:
    """Relative, so that it also works behind a proxy that adds a path."""
    return f"studio/exports/{job_id}/{file}"


def about(
    form: str, size: int | None, free: int, *, kind: str, transport: bool, sensitive: bool, part: str = "unet"
) -> str:
    """What the choice means: size, who reads it, and what is lost by it. `size` is in bytes, None if not known."""
    words = "as large as the base model" if size is None else gigabytes(size)
    lines = [
        f"<p><b>{words}</b>; {gigabytes(free)} are free. {READERS[form]}</p>",
        f"<p>{WHY_MERGED if form in MERGED else WHY_NOT_LORA}</p>",
    ]
    if kind == "weights":
        lines.append(
            "<p>This model’s change is edited weights, so there is no LoRA of it. Its difference file, which only this "
            "studio reads, is the adapter itself.</p>"
        )
    if part == "text_encoder":
        lines.append(
            "<p>The change lies in the text encoder alone, which is in these files: a program that is given another "
            "one (CLIP) draws the concept again.</p>"
        )
    if transport:
        lines.append(
            "<p>Facilitated Transport, by which this adapter’s strength follows the prompt, is lost: in other programs "
            "it acts on every prompt at full strength.</p>"
        )
    if sensitive:
        lines.append("<p>The card carries the hub’s tag not-for-all-audiences.</p>")
    tone = "info" if form in MERGED else "warn"
    return f'<div class="duo-note duo-note-{tone} duo-export-about" role="status"><div>{"".join(lines)}</div></div>'


def listing(settings: Settings, jobs: Sequence[Job], checkpoints: Sequence[Checkpoint], waits: dict[str, str]) -> str:
    """The newest exports first."""
    if not jobs:
        return ""
    names = {checkpoint.id: checkpoint.name for checkpoint in checkpoints}
    rows = "".join(_row(settings, job, names, waits.get(job.id, "")) for job in reversed(jobs[-LISTED:]))
    older = len(jobs) - LISTED
    more = f'<p class="duo-more">… and {older} older</p>' if older > 0 else ""
    return f'<div class="duo-jobs">{rows}{more}</div>'


def _row(settings: Settings, job: Job, names: dict[str, str], waits: str) -> str:
    config, size = job.config, job.result.get("bytes")
    name = names.get(config.get("checkpoint_id", ""), "A model that is gone")
    what = f"{FORMAT_WORDS.get(config.get('format', ''), 'Unknown format')}, {config.get('dtype', '')}"
    what += f", {gigabytes(size)}" if isinstance(size, int) else ""
    body = {"done": _done, "failed": _failed}.get(job.state, _going)(settings, job, waits)
    return (
        f'<div class="duo-job"><div>{escape(name)}<p>{escape(what)}</p><p>{ago(job.finished or job.created)}</p></div>'
        f'<div><span class="duo-pill is-{_LOOK.get(job.state, "plain")}">{escape(STATE_WORDS[job.state])}</span></div>'
        f"<div>{body}</div></div>"
    )


def _going(settings: Settings, job: Job, waits: str) -> str:
    if job.state == "stopped":
        return "<p>Stopped. Resume it under Jobs; it begins anew.</p>"
    bar = progress_bar(job) if job.state in ("running", "stopping") else ""
    return f"{bar}<p>{escape(waits or job.message or 'Starting …')} {escape(left(job.eta_seconds))}</p>"


def _failed(settings: Settings, job: Job, waits: str) -> str:
    return f'<p class="is-error">{escape(job.error.splitlines()[0] if job.error else "It failed.")}</p>'


def _done(settings: Settings, job: Job, waits: str) -> str:
    folder = settings.data / str(job.result.get("folder"))
    if not folder.is_dir():
        return f"<p>Was in <code>{escape(folder)}</code>, and is no longer there.</p>"
    file = job.result.get("main_file", "")
    links = []
    if own_folder(settings, job) is not None:
        if file:
            links.append(f'<a href="{export_url(job.id, file)}" download="{escape(file)}">Download {escape(file)}</a>')
        links.append(f'<a href="{export_url(job.id, "README.md")}" target="_blank">Model card</a>')
    url = str(job.result.get("url", ""))
    if url.startswith(("https://", "http://")):
        links.append(f'<a href="{escape(url)}" target="_blank" rel="noreferrer">On the hub</a>')
    return f'<p>In <code>{escape(folder)}</code></p><div class="duo-links">{"".join(links)}</div>'


def own_folder(settings: Settings, job: Job) -> Path | None:
    """The folder of a finished export, where the studio chose it; None for one that somebody named."""
    place: Any = job.result.get("folder")
    if job.kind != "export" or job.state != "done" or not isinstance(place, str):
        return None
    folder = (settings.data / place).resolve()
    return folder if folder.is_relative_to((settings.exports / job.id).resolve()) else None


def export_routes(settings: Settings, store: Store) -> list[Route]:
    def file(request: Request) -> Response:
        try:
            folder = own_folder(settings, store.get_job(request.path_params["job"]))
        except NotFoundError:
            folder = None
        path = (folder / request.path_params["file"]).resolve() if folder else None
        if folder is None or path is None or not path.is_relative_to(folder) or not path.is_file():
            return PlainTextResponse("There is no such file of an export.", status_code=404)
        plain = path.suffix in (".md", ".json", ".txt")
        kind = "text/plain; charset=utf-8" if plain else "application/octet-stream"
        return FileResponse(path, media_type=kind, headers={"X-Content-Type-Options": "nosniff"})

    return [Route("/studio/exports/{job}/{file:path}", file, methods=["GET"])]
