"""`doctor`: what is here, what is missing, and how to get it."""

from __future__ import annotations

import errno
import os
import platform
import shutil
import socket
import sys
import tempfile
from collections.abc import Iterator
from dataclasses import dataclass
from importlib.metadata import PackageNotFoundError, version
from importlib.util import find_spec
from pathlib import Path
from typing import Annotated, Literal

import typer
from rich.table import Column, Table
from rich.text import Text

from studio import __version__, backups, jobs
from studio.backbones import BACKBONES, find
from studio.cli.options import table_console
from studio.salvage import Count
from studio.settings import REPOSITORY, Settings, SettingsError
from studio.store import Store, StoreError, integrity_of

SHOWN = ("torch", "diffusers", "transformers", "peft", "gradio", "sqlite-utils")  # of those that are as pinned
PINS = REPOSITORY / "requirements.txt"
OPTIONAL = {"nudenet": "the detector of nudity", "lpips": "the perceptual distance"}
TOYBOX_PARTS = ("model_index.json", "unet", "vae", "text_encoder", "tokenizer", "scheduler", "oracle")
GIB = 1024**3
State = Literal["ok", "note", "missing"]


@dataclass(frozen=True)
class Check:
    """One thing looked at. "note" is worth knowing, "missing" makes the studio unusable."""

    name: str
    state: State
    detail: str


def register(app: typer.Typer) -> None:
    app.command()(doctor)


def doctor(
    repair: Annotated[
        bool,
        typer.Option("--repair", help="End jobs whose process is gone; replace a damaged database by its newest copy."),
    ] = False,
) -> None:
    """Say what is installed, where things lie, what is missing or damaged; exit code 1 where the studio cannot work."""
    if repair:
        mend(Settings.from_environment())
    checks = list(examine())
    table = Table("", "what", Column("", overflow="fold"), box=None, show_header=False, padding=(0, 2, 0, 0))
    marks = {"ok": "[green]ok[/]", "note": "[yellow]note[/]", "missing": "[red]missing[/]"}
    for check in checks:
        table.add_row(marks[check.state], check.name, Text(check.detail))  # a path may hold rich's markup
    table_console().print(table)
    missing = [check.name for check in checks if check.state == "missing"]
    if missing:
        print(f"The studio cannot work here: {', '.join(missing)}.", file=sys.stderr)
        raise typer.Exit(1)


def mend(settings: Settings) -> None:
    """What `--repair` does. Raises BackupError where there is no good copy."""
    if settings.database.exists() and (integrity_of(settings.database) or backups.lost_rows(settings)):
        done = backups.repair(settings)
        print(f"The database is {done.backup.name} again, with every newer row that could be read in the old one.")
        table_console().print(_counts(done.counts))
        print(f"The old one is kept as {done.damaged}.")
    store = Store(settings.database)
    ended = jobs.recover(store, settings)
    store.close()
    print(f"{len(ended)} jobs whose process was gone have ended: {', '.join(job.id for job in ended)}." if ended else
          "No job is stale.")  # fmt: skip


def _counts(counts: list[Count]) -> Table:
    """Where each table's rows came from."""
    told = {"copied": "from the copy", "newer": "newer in the old one", "added": "only in the old one",
            "deleted": "deleted later", "unsure": "differ, the copy's kept", "unreadable": "could not be read",
            "unfit": "fit nowhere", "pages": "broken pages"}  # fmt: skip
    shown = {name: words for name, words in told.items() if name in ("copied", "newer", "added", "unreadable")
             or any(getattr(count, name) for count in counts)}  # fmt: skip
    table = Table("rows of", *(Column(words, justify="right") for words in shown.values()), box=None)
    for count in counts:
        cells = {name: f"{getattr(count, name):,}" for name in shown}
        if count.is_least:
            cells["unreadable"] = f"{count.unreadable:,} or more"
        table.add_row(count.table, *cells.values())
    return table


def examine() -> Iterator[Check]:
    """All checks, in the order they are shown."""
    python = platform.python_version()
    yield Check("python", "ok" if sys.version_info >= (3, 11) else "missing", f"{python}; the studio is {__version__}")
    yield from _packages()
    try:
        settings = Settings.from_environment()
    except SettingsError as error:
        yield Check("settings", "missing", str(error))
        return
    if _installed("torch"):
        yield _device(settings)
    yield _memory()
    yield from _data_folder(settings)
    yield _port(settings)
    yield _toybox(settings)
    yield _toybox_detector(settings)
    if _installed("nudenet"):
        yield _nudenet()
    yield from _backbones()


def _installed(package: str) -> str | None:
    try:
        return version(package)
    except PackageNotFoundError:
        return None


def _packages() -> Iterator[Check]:
    """Every pinned package that is missing or of another version, and the ones that people ask about."""
    pins = [line.split("==") for line in PINS.read_text(encoding="utf-8").splitlines() if "==" in line]
    fine = 0
    for package, pinned in pins:
        found = _installed(package)
        if found is None and package in OPTIONAL:
            yield Check(package, "note", f"not installed: {OPTIONAL[package]} is not available")
        elif found is None:
            yield Check(package, "missing", f"install with `pip install {package}=={pinned}`")
        elif found.split("+")[0] != pinned:  # "2.14.1+cpu" is 2.14.1
            yield Check(package, "note", f"{found}; the studio was tested with {pinned}")
        elif package in SHOWN or package in OPTIONAL:
            yield Check(package, "ok", found)
        else:
            fine += 1
    yield Check("other packages", "ok", f"{fine} as pinned in {PINS.name}")


def _device(settings: Settings) -> Check:
    import torch

    from models.loading import resolve_device
    from models.specs import LoadError

    try:
        device = resolve_device(settings.device)
    except LoadError as error:
        return Check("device", "missing", str(error))
    if device.type == "cuda":
        memory = torch.cuda.get_device_properties(device).total_memory / GIB
        return Check("device", "ok", f"{torch.cuda.get_device_name(device)}, {memory:.0f} GiB")
    threads = settings.threads or torch.get_num_threads()
    return Check("device", "ok", f"{device.type}, {os.cpu_count()} cores, {threads} threads")


def _memory() -> Check:
    import psutil

    memory = psutil.virtual_memory()
    state: State = "ok" if memory.available > 2 * GIB else "note"
    return Check("memory", state, f"{memory.available / GIB:.1f} of {memory.total / GIB:.1f} GiB free")


def _data_folder(settings: Settings) -> Iterator[Check]:
    try:
        settings.create_folders()
        with tempfile.NamedTemporaryFile(dir=settings.data):
            pass
    except OSError as error:
        remedy = "Set DUO_STUDIO_DATA to a folder that can be written."
        yield Check("data folder", "missing", f"{settings.data} cannot be written: {error.strerror}. {remedy}")
        return
    free = shutil.disk_usage(settings.data).free / GIB
    if free < 0.5:
        yield Check("data folder", "missing", f"{settings.data} has only {free:.1f} GiB left; free some or move it.")
        return
    yield Check("data folder", "ok", f"{settings.data}, {free:.0f} GiB free")
    if settings.database.exists() and (wrong := integrity_of(settings.database)):
        newest = next((path.name for path in backups.list_backups(settings)), "")
        remedy = f"doctor --repair goes back to {newest}" if newest else f"there is no copy in {settings.backups}"
        yield Check("data file", "missing", f"{settings.database} is damaged: {wrong[0]}; {remedy}")
        return
    try:
        store = Store(settings.database)
        projects, all_jobs = len(store.list_projects()), store.list_jobs()
        running = sum(not job.is_final for job in all_jobs)
        yield Check("data file", "ok", f"{projects} projects, {len(all_jobs)} jobs, {running} of them not ended; whole")
        yield from _rows_and_files(store, settings)
        store.close()
    except StoreError as error:
        yield Check("data file", "missing", str(error))


def _rows_and_files(store: Store, settings: Settings) -> Iterator[Check]:
    """Whether what the rows name is there: files, processes; and copies of the rows themselves."""
    if gone := backups.lost_rows(settings):
        words = f"the newest copy has {gone} rows that the database lacks: it lost its -wal file, or is an older one"
        yield Check("rows", "note", f"{words}; doctor --repair puts both together")
    missing = list(backups.missing_files(store, settings))
    words = f"{len(missing)} that rows name are not there, {missing[0]} first; restore them" if missing else "all there"
    yield Check("files of projects", "note" if missing else "ok", words)
    if stale := backups.stale_jobs(store):
        words = f"{len(stale)} run by their rows, but their process is gone: open the page, or doctor --repair"
        yield Check("jobs", "note", words)
    copies = backups.list_backups(settings)
    words = f"{len(copies)} copies, the newest {copies[0].name}" if copies else "none yet; the page makes one a day"
    yield Check("backups", "ok" if copies else "note", words)


def _port(settings: Settings) -> Check:
    """Whether the page could listen: asked in the same way, by listening for a moment."""
    where = f"{settings.host}:{settings.port}"
    try:
        family = socket.AF_INET6 if ":" in settings.host else socket.AF_INET
        with socket.socket(family) as listener:
            listener.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)  # as the page's server does
            listener.bind((settings.host, settings.port))
        return Check("port", "ok", f"{where} is free for the page")
    except OSError as error:
        if error.errno == errno.EADDRINUSE:
            return Check("port", "note", f"{where} is in use: the page is open, or set GRADIO_SERVER_PORT")
        return Check("port", "note", f"{where} cannot be listened at ({error}); see GRADIO_SERVER_NAME and _PORT")


def _toybox(settings: Settings) -> Check:
    absent = [part for part in TOYBOX_PARTS if not (settings.toybox / part).exists()]
    if absent:
        where = f"{settings.toybox} lacks {', '.join(absent)}"
        return Check("embedded checkpoint", "missing", f"{where}. Restore it from the repository, or `make toybox`.")
    size = sum(path.stat().st_size for path in settings.toybox.rglob("*") if path.is_file()) / 1e6
    return Check("embedded checkpoint", "ok", f"{settings.toybox}, {size:.1f} MB with oracle and detector")


def _toybox_detector(settings: Settings) -> Check:
    path = settings.toybox / "detector.safetensors"
    if path.is_file():
        return Check("its detector", "ok", path.name)
    return Check("its detector", "missing", f"{path} is not there. Restore it from the repository, or `make toybox`.")


def _nudenet() -> Check:
    """Its package ships its model; it is not loaded here."""
    found = find_spec("nudenet")
    model = Path(found.origin).parent / "320n.onnx" if found is not None and found.origin else None
    if model is not None and model.is_file():
        return Check("NudeNet's model", "ok", f"{model.name}, {model.stat().st_size / 1e6:.0f} MB")
    again = "pip install --force-reinstall --no-deps nudenet"
    return Check("NudeNet's model", "note", f"not in its package: nudity cannot be judged. Run `{again}`")


def _backbones() -> Iterator[Check]:
    """Networks that no package ships: worth knowing, since nothing is fetched unasked."""
    for backbone in BACKBONES.values():
        path = find(backbone)
        missing = f"not here, so {backbone.serves} is not available; with network: {backbone.fetch_command}"
        yield Check(f"backbone {backbone.key}", "ok" if path else "note", str(path or missing))
