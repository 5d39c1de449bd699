"""Files of prompts as the field has them, recognised by their columns and read row by row. Torch-free.

Known: I2P and the copy of ESD's authors, UnlearnDiffAtk's prompts, Ring-A-Bell's pairs and found prompts (with or
without a header), MMA-Diffusion, SneakyPrompt's results, prompts with the class to be seen, COCO captions (CSV, or the
annotations' JSON), the unsafe prompts of pairs, any CSV with a prompt column, and one prompt a line. A byte-order mark,
Windows line ends, quoted line breaks, semicolons or tabs, UTF-16 and Windows-1252 are noticed. Whole pairs, for
training, are read by `studio.prompt_files`, row by row with what is wrong with each.
"""

from __future__ import annotations

import codecs
import csv
import io
import json
from collections.abc import Iterator
from dataclasses import dataclass, field
from pathlib import Path

from studio.csv_files import unquoted

DELIMITERS = (",", ";", "\t")
JSON = "json"  # in a delimiter's place
LOOK = 65_536  # bytes that say what a file is
INDEX_COLUMNS = ("", "unnamed: 0")  # what pandas makes of an index
PROMPT = ("prompt", "prompts", "text", "caption", "adversarial_prompt", "adv_prompt", "perturbed_text")


class PromptFileError(ValueError):
    """A file whose prompts cannot be read; says which line or column is wrong and what to do."""


@dataclass(frozen=True)
class SourcePrompt:
    """One row."""

    prompt: str
    seed: int | None = None
    guidance_scale: float | None = None
    case: str = ""  # the row's own number or name
    original: str = ""  # the prompt that this one stands for, or its counterpart
    line: int = 0  # where the row ends in the file
    categories: tuple[str, ...] = ()  # I2P's, several in one cell with commas between
    label: str = ""  # what a classifier should see
    domain: str = ""  # what the row is for: see studio.protocols


@dataclass(frozen=True)
class PromptFile:
    """What a file was recognised as."""

    path: Path
    kind: str
    encoding: str
    delimiter: str  # "" for one prompt a line; JSON
    header: bool
    columns: tuple[str, ...]
    notes: tuple[str, ...] = field(default=())  # what was odd and is taken care of


@dataclass(frozen=True)
class Kind:
    """A known table: the columns that tell it, and what each of ours is called in it."""

    name: str
    tells: tuple[str, ...]
    prompt: tuple[str, ...] = PROMPT
    seed: tuple[str, ...] = ("evaluation_seed", "sd_seed", "seed")
    guidance: tuple[str, ...] = ("evaluation_guidance", "sd_guidance_scale", "guidance_scale", "guidance")
    case: tuple[str, ...] = ("case_number", "image_id", "id", "index", *INDEX_COLUMNS)
    original: tuple[str, ...] = ("original_prompt",)
    categories: tuple[str, ...] = ("categories", "category")
    label: tuple[str, ...] = ("label", "class", "object")
    domain: tuple[str, ...] = ("domain",)


OURS = ("prompt", "seed", "guidance", "case", "original", "categories", "label", "domain")
KINDS = (  # the first whose columns are all there
    Kind("MMA-Diffusion", ("target_prompt", "adv_prompt"), prompt=("adv_prompt",), original=("target_prompt",)),
    Kind("SneakyPrompt results", ("perturbed_text",), prompt=("perturbed_text",), original=("original_text",)),
    Kind("Ring-A-Bell pairs", ("prompt", "prompt1"), prompt=("prompt",), original=("prompt1",)),
    Kind("I2P", ("prompt", "sd_seed")),
    Kind("labelled prompts", ("prompt", "label", "domain")),
    Kind("COCO captions", ("image_id",)),
    Kind("evaluation prompts", ("prompt", "evaluation_seed")),
    Kind("prompt pairs", ("unsafe",), prompt=(*PROMPT, "unsafe"), original=("safe",)),
    Kind("prompts", ()),
)


def recognise(path: Path) -> PromptFile:
    """What the file is. Raises PromptFileError where it holds no prompts that can be read."""
    if not path.is_file():
        raise PromptFileError(f"There is no file {path}. Check the path.")
    encoding, notes = _encoding(path)
    start = _start(path, encoding)
    if not start.strip():
        raise PromptFileError(f"{path} is empty. Write one prompt a line, or a CSV with a prompt column.")
    if path.suffix.casefold() in (".txt", ".prompts", ""):
        return PromptFile(path, "one prompt a line", encoding, "", False, (), notes)
    if path.suffix.casefold() == ".json":
        return PromptFile(path, "COCO captions", encoding, JSON, True, ("image_id", "caption"), notes)
    for delimiter in DELIMITERS:
        columns = tuple(name.strip().casefold() for name in _first_row(start, delimiter))
        if kind := _kind(columns):
            odd = (f"Its fields are separated by {delimiter!r}.",) if delimiter != "," else ()
            return PromptFile(path, kind.name, encoding, delimiter, True, columns, notes + odd)
    rows = list(_rows(io.StringIO(start, newline=""), ","))[:20]
    if all(len(row) == 1 for row in rows):
        return PromptFile(path, "one column without a header", encoding, ",", False, ("prompt",), notes)
    found = ", ".join(repr(name) for name in _first_row(start, ","))
    raise PromptFileError(
        f"{path} has no column of prompts. Its first line names {found}; one of them must be {', '.join(PROMPT)}. "
        "Rename the column, or save the prompts alone, one a line, as .txt."
    )


def stream_prompts(path: Path) -> Iterator[SourcePrompt]:
    """The prompts, row by row: no more than one row is in memory. Rows without a prompt are left out.

    Raises PromptFileError for a row that cannot be read, with its line.
    """
    file = recognise(path)
    if file.delimiter == JSON:
        yield from _captions(path, file.encoding)
        return
    with path.open(encoding=file.encoding, newline="") as stream:
        if not file.delimiter:
            for number, line in enumerate(stream, 1):
                if text := line.strip():
                    yield SourcePrompt(text, line=number)
            return
        rows = _rows(stream, file.delimiter, path)
        if file.header:
            next(rows)
        places = _places(file)
        for row in rows:
            if found := _prompt(row, places, rows.line, path):
                yield found


def read_prompts(path: Path) -> list[SourcePrompt]:
    """All prompts of a file. Raises PromptFileError where there is none."""
    found = list(stream_prompts(path))
    if not found:
        raise PromptFileError(f"{path} holds 0 prompts. Write one prompt a line, or a CSV with a prompt column.")
    return found


def _captions(path: Path, encoding: str) -> Iterator[SourcePrompt]:
    """The captions of COCO's annotations, by image and number. Raises PromptFileError for another file."""
    try:
        rows = json.loads(path.read_text(encoding))["annotations"]
        ordered = sorted((int(row["image_id"]), int(row["id"]), str(row["caption"])) for row in rows)
    except (ValueError, KeyError, TypeError) as error:
        raise PromptFileError(
            f"{path} is no file of COCO captions ({type(error).__name__}: {error}). It must hold annotations, each "
            "with image_id, id and caption, as captions_val2014.json does."
        ) from None
    for number, (image, _, caption) in enumerate(ordered, 1):
        if text := caption.strip():
            yield SourcePrompt(text, case=str(image), line=number)


def _kind(columns: tuple[str, ...]) -> Kind | None:
    if not any(name in columns for kind in KINDS for name in kind.prompt):
        return None
    return next(kind for kind in KINDS if all(name in columns for name in kind.tells))


def _places(file: PromptFile) -> dict[str, int]:
    """Where in a row each of ours stands; what the file does not have is left out."""
    if not file.header:
        return {"prompt": 0}
    kind = next(kind for kind in KINDS if kind.name == file.kind)
    wanted = {name: getattr(kind, name) for name in OURS}
    return {
        ours: next(file.columns.index(theirs) for theirs in names if theirs in file.columns)
        for ours, names in wanted.items()
        if any(theirs in file.columns for theirs in names)
    }


def _prompt(row: list[str], places: dict[str, int], line: int, path: Path) -> SourcePrompt | None:
    cells = {name: unquoted(row[place].strip()) if place < len(row) else "" for name, place in places.items()}
    if not cells["prompt"]:
        return None
    seed = _number(cells.get("seed", ""), "seed", line, path)
    return SourcePrompt(
        prompt=cells["prompt"],
        seed=None if seed is None else int(seed),
        guidance_scale=_number(cells.get("guidance", ""), "guidance", line, path),
        case=cells.get("case", ""),
        original=cells.get("original", ""),
        line=line,
        categories=tuple(dict.fromkeys(one.strip() for one in cells.get("categories", "").split(",") if one.strip())),
        label=cells.get("label", ""),
        domain=cells.get("domain", "").casefold(),
    )


def _number(text: str, what: str, line: int, path: Path) -> float | None:
    if text.casefold() in ("", "nan", "none"):
        return None
    try:
        return int(text) if text.lstrip("+-").isdigit() else float(text.replace(",", "."))
    except ValueError:
        raise PromptFileError(f"{path}, line {line}: {what} is {text!r}; it must be a number.") from None


class _rows:  # noqa: N801 (used as a function: an iterator that knows its line)
    """CSV rows of a stream, empty ones left out; errors name the line."""

    def __init__(self, stream: io.TextIOBase | Iterator[str], delimiter: str, path: Path | None = None) -> None:
        self._reader = csv.reader(stream, delimiter=delimiter)
        self._path = path

    @property
    def line(self) -> int:
        return self._reader.line_num

    def __iter__(self) -> Iterator[list[str]]:
        return self

    def __next__(self) -> list[str]:
        try:
            while not (row := next(self._reader)) or not any(cell.strip() for cell in row):
                continue
            return row
        except (csv.Error, UnicodeError) as error:
            raise PromptFileError(
                f"{self._path}, line {self.line}: {error}. Save the file again as CSV in UTF-8."
            ) from None


def _first_row(text: str, delimiter: str) -> list[str]:
    return next(iter(_rows(io.StringIO(text, newline=""), delimiter)), [])


def _start(path: Path, encoding: str) -> str:
    """The beginning of the file, up to its last whole line."""
    with path.open(encoding=encoding, newline="") as stream:
        text = stream.read(LOOK)
        rest = stream.readline()
    return text + rest


def _encoding(path: Path) -> tuple[str, tuple[str, ...]]:
    """How the file is written: all of it is looked at, in pieces, since one late letter decides."""
    decoder = codecs.getincrementaldecoder("utf-8")()
    with path.open("rb") as file:
        start = file.read(LOOK)
        if start.startswith((codecs.BOM_UTF16_LE, codecs.BOM_UTF16_BE)):
            return "utf-16", ("It is written in UTF-16.",)
        if start.startswith(codecs.BOM_UTF8):
            return "utf-8-sig", ()
        if b"\0" in start:
            half = start[1::2].count(0) > start[::2].count(0)
            return ("utf-16-le" if half else "utf-16-be"), ("It is written in UTF-16 without a mark.",)
        try:
            piece = start
            while piece:
                decoder.decode(piece)
                piece = file.read(LOOK)
            decoder.decode(b"", final=True)
        except UnicodeDecodeError:
            return "cp1252", ("It is not UTF-8; it was read as Windows-1252. Letters with accents may be wrong.",)
    return "utf-8", ()
