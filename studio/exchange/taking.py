"""The curated set, out of the studio: as an imagefolder or as parquet, with every decision and the audit log.

    imagefolder   unsafe/<pair>.png, safe/<pair>.png, metadata.jsonl (one row a pair), verdicts.jsonl, README.md
    parquet       data/train-00000-of-00001.parquet (one row a pair, pictures inside), verdicts.jsonl, README.md

Both are what Hugging Face's datasets library reads, and what this studio brings in again. Pairs that were stopped since
they may be illegal are in neither, nor is a word about them. README.md is the dataset's card.
"""

from __future__ import annotations

import json
import shutil
import tempfile
import zipfile
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from datetime import UTC, datetime
from pathlib import Path
from typing import Any, Literal, Protocol

from studio.exchange.card import write_card
from studio.images import read_file
from studio.records import ImagePair, Project, PromptPair, Verdict
from studio.settings import Settings
from studio.store import DETECTOR, Store

Form = Literal["imagefolder", "parquet"]
Which = Literal["accepted", "decided", "all"]
WHICH = {"accepted": ("accept",), "decided": ("accept", "reject"), "all": ("accept", "reject", "skip", "")}
PARQUET = "data/train-00000-of-00001.parquet"
GROUP_BYTES = 64 * 2**20  # of pictures in one row group, which is what a reader holds
_TEXTS = ("pair", "unsafe_prompt", "safe_prompt", "decision", "decided_by", "decided_at", "reason", "origin",
          "unsafe_sha256", "safe_sha256", "unsafe_source", "safe_source")  # fmt: skip
_NUMBERS = ("unsafe_score", "safe_score", "distance", "strength")
_WHOLE = ("tries", "seed")


class TakeError(ValueError):
    """A set that cannot be written; says why and what to do."""


@dataclass(frozen=True)
class Curated:
    """One pair to be taken along."""

    pair: ImagePair
    prompts: PromptPair
    verdict: Verdict | None


@dataclass(frozen=True)
class Selection:
    """What is taken: the pairs, and the whole history of decisions, with names or without."""

    project: Project
    which: Which
    pairs: Sequence[Curated]
    history: Sequence[Verdict]  # of all pairs, also of those that stay behind
    states: dict[str, ImagePair]  # of every pair in the history
    people: dict[str, str]  # what a reviewer is called


class Sink(Protocol):
    """Where files go: into a folder or into a zip."""

    def write(self, name: str, data: bytes) -> None: ...

    def move(self, name: str, path: Path) -> None: ...


def select(store: Store, project_id: str, which: Which = "accepted", *, names: bool = True) -> Selection:
    """The pairs whose decision is wanted, in the order they were made. Raises TakeError where there is none.

    Without `names`, reviewers are "reviewer 1", "reviewer 2" … in the order they first decided.
    """
    if which not in WHICH:
        raise TakeError(f"There is no selection {which!r}; use {', '.join(WHICH)}.")
    project = store.get_project(project_id)
    prompts = {prompt.id: prompt for prompt in store.list_prompt_pairs(project_id, wordless=True)}
    current = store.current_verdicts(project_id)
    ready = store.list_image_pairs(project_id, "ready")
    chosen = [
        Curated(pair, prompts[pair.prompt_pair_id], current.get(pair.id))
        for pair in ready
        if (current[pair.id].verdict if pair.id in current else "") in WHICH[which]
    ]
    if not chosen:
        raise TakeError(f"{_NONE[which]} Decide on some in Curate, or take more of them (which: {', '.join(WHICH)}).")
    known = {pair.id: pair for state in (None, "purged") for pair in store.list_image_pairs(project_id, state)}
    history = [verdict for verdict in store.list_verdicts(project_id) if verdict.pair_id in known]
    reviewers = list(dict.fromkeys(v.reviewer for v in history if v.reviewer != DETECTOR))
    people = {name: name if names else f"reviewer {number}" for number, name in enumerate(reviewers, 1)}
    return Selection(project, which, chosen, history, known, people | {DETECTOR: DETECTOR})


def take(
    selection: Selection,
    settings: Settings,
    sink: Sink,
    form: Form,
    *,
    names: bool = True,
    report: Callable[[int, int], None] = lambda done, total: None,
) -> int:
    """Write the selection; returns how many pairs. `names` False leaves out the names of files that were brought.

    Raises ImageError where a picture is missing or was changed.
    """
    total = len(selection.pairs)
    rows = (_row(selection, one, names) for one in selection.pairs)
    if form == "imagefolder":
        lines = []
        for done, (one, row) in enumerate(zip(selection.pairs, rows, strict=True), 1):
            files = {side: f"{side}/{one.pair.id}.png" for side in ("unsafe", "safe")}
            sink.write(files["unsafe"], read_file(settings, one.pair.unsafe_image))
            sink.write(files["safe"], read_file(settings, one.pair.safe_image))
            lines.append({"unsafe_file_name": files["unsafe"], "safe_file_name": files["safe"], **row})
            report(done, total)
        sink.write("metadata.jsonl", _jsonl(lines))
    else:
        with tempfile.TemporaryDirectory(prefix="duo-take-") as folder:
            path = Path(folder) / "pairs.parquet"
            _write_parquet(path, selection, settings, rows, report)
            sink.move(PARQUET, path)
    sink.write("verdicts.jsonl", _jsonl(_audit(selection)))
    sink.write("README.md", write_card(selection, form).encode())
    return total


@contextmanager
def folder_sink(folder: Path) -> Iterator[Sink]:
    """A folder that is new or empty; what was written goes again where it did not get to its end. Raises TakeError."""
    if folder.exists() and (not folder.is_dir() or any(folder.iterdir())):
        raise TakeError(f"{folder} is there already and not empty. Name a new folder.")
    folder.mkdir(parents=True, exist_ok=True)
    try:
        yield _Folder(folder)
    except BaseException:
        shutil.rmtree(folder, ignore_errors=True)
        raise


@contextmanager
def zip_sink(path: Path) -> Iterator[Sink]:
    """One zip file, whole or not there. Pictures do not get smaller, so nothing is compressed but text."""
    path.parent.mkdir(parents=True, exist_ok=True)
    temporary = path.with_name(f".{path.name}.part")
    try:
        with zipfile.ZipFile(temporary, "w", zipfile.ZIP_STORED) as archive:
            yield _Zip(archive)
        temporary.replace(path)
    finally:
        temporary.unlink(missing_ok=True)


class _Folder:
    def __init__(self, folder: Path) -> None:
        self.folder = folder

    def write(self, name: str, data: bytes) -> None:
        path = self.folder / name
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_bytes(data)

    def move(self, name: str, path: Path) -> None:
        (self.folder / name).parent.mkdir(parents=True, exist_ok=True)
        shutil.move(path, self.folder / name)


class _Zip:
    def __init__(self, archive: zipfile.ZipFile) -> None:
        self.archive = archive

    def write(self, name: str, data: bytes) -> None:
        kind = zipfile.ZIP_STORED if name.endswith(".png") else zipfile.ZIP_DEFLATED
        self.archive.writestr(name, data, kind)

    def move(self, name: str, path: Path) -> None:
        self.archive.write(path, name)


def _row(selection: Selection, one: Curated, names: bool) -> dict[str, Any]:
    """What a table says of a pair, pictures aside."""
    pair, verdict = one.pair, one.verdict
    return {
        "pair": pair.id,
        "unsafe_prompt": one.prompts.unsafe,
        "safe_prompt": one.prompts.safe,
        "decision": verdict.verdict if verdict else "",
        "decided_by": selection.people[verdict.reviewer] if verdict else "",
        "decided_at": _time(verdict.created) if verdict else "",
        "reason": verdict.reason if verdict else "",
        "origin": pair.origin,
        "unsafe_sha256": pair.unsafe_image,
        "safe_sha256": pair.safe_image,
        "unsafe_source": str(pair.source.get("unsafe", "")) if names else "",
        "safe_source": str(pair.source.get("safe", "")) if names else "",
        "unsafe_score": pair.unsafe_score,
        "safe_score": pair.safe_score,
        "distance": pair.distance,
        "strength": pair.strength,
        "tries": pair.tries,
        "seed": pair.seed,
    }


def _audit(selection: Selection) -> Iterator[dict[str, Any]]:
    """Every verdict that was ever given, undone ones and undos included, oldest first."""
    for verdict in selection.history:
        pair = selection.states[verdict.pair_id]
        yield {
            "id": verdict.id,
            "pair": verdict.pair_id,
            "verdict": verdict.verdict,
            "reviewer": selection.people[verdict.reviewer],
            "reason": verdict.reason,
            "revealed": verdict.revealed,
            "milliseconds": verdict.milliseconds,
            "blind": verdict.blind,
            "settles": verdict.settles,
            "bulk": verdict.bulk_id,
            "at": _time(verdict.created),
            "supersedes": verdict.supersedes,
            "pair_state": pair.state,
            "unsafe_sha256": pair.unsafe_image,
            "safe_sha256": pair.safe_image,
        }


def _write_parquet(
    path: Path,
    selection: Selection,
    settings: Settings,
    rows: Iterator[dict[str, Any]],
    report: Callable[[int, int], None],
) -> None:
    import pyarrow as pa
    import pyarrow.parquet as pq

    image = pa.struct([("bytes", pa.binary()), ("path", pa.string())])
    words = [(name, pa.string()) for name in _TEXTS]
    numbers = [(name, pa.float64()) for name in _NUMBERS] + [(name, pa.int64()) for name in _WHOLE]
    schema = pa.schema([("unsafe", image), ("safe", image), *words, *numbers])
    schema = schema.with_metadata({"huggingface": json.dumps({"info": {"features": _features()}})})
    waiting: list[dict[str, Any]] = []
    size = 0
    with pq.ParquetWriter(path, schema, compression="zstd", use_dictionary=False) as writer:
        for done, (one, row) in enumerate(zip(selection.pairs, rows, strict=True), 1):
            names = {"unsafe": one.pair.unsafe_image, "safe": one.pair.safe_image}
            files = {side: read_file(settings, name) for side, name in names.items()}
            pictures = {side: {"bytes": data, "path": f"{side}/{one.pair.id}.png"} for side, data in files.items()}
            waiting.append({**pictures, **row})
            size += sum(map(len, files.values()))
            if size >= GROUP_BYTES or done == len(selection.pairs):
                writer.write_table(pa.Table.from_pylist(waiting, schema))
                waiting, size = [], 0
            report(done, len(selection.pairs))


def _features() -> dict[str, Any]:
    """What the datasets library is told of the columns, so that pictures are shown as pictures."""
    kinds = dict.fromkeys(_TEXTS, "string") | dict.fromkeys(_NUMBERS, "float64") | dict.fromkeys(_WHOLE, "int64")
    values = {name: {"dtype": kind, "_type": "Value"} for name, kind in kinds.items()}
    return {"unsafe": {"_type": "Image"}, "safe": {"_type": "Image"}} | values


def _jsonl(rows: Iterator[dict[str, Any]] | list[dict[str, Any]]) -> bytes:
    return "".join(json.dumps(row, ensure_ascii=False) + "\n" for row in rows).encode()


def _time(moment: float) -> str:
    return datetime.fromtimestamp(moment, UTC).isoformat(timespec="seconds")


_NONE = {
    "accepted": "No pair is accepted yet.",
    "decided": "No pair is accepted or rejected yet.",
    "all": "The project has no pairs.",
}
