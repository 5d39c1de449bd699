"""What an evaluation asks of every model: prompts and seeds, from the studio, the project or a protocol's files."""

from __future__ import annotations

import hashlib
from collections import Counter
from collections.abc import Iterable, Iterator, Sequence
from dataclasses import dataclass, field, replace
from itertools import islice
from pathlib import Path
from typing import Any

from studio.configs import EvaluateConfig
from studio.evaluation_checks import no_prompts, without_protocol
from studio.metrics import MEASURES
from studio.metrics.base import Detector
from studio.metrics.imagenette import CELL as IMAGENETTE
from studio.metrics.imagenette import class_prompts
from studio.prompt_sources import SourcePrompt, recognise, stream_prompts
from studio.prompts import CONCEPT_CELLS, EvaluationItem, ItemRole, evaluation_items, first_seed
from studio.protocols import DOMAINS, Protocol, problem_of
from studio.refusal import refuse
from studio.reports.schema import Source
from studio.workflow.context import JobContext, WorkflowError

NO_CATEGORY = "no category"
EVERYTHING = "all"  # of I2P's categories
APART_OFFSET = 900_000  # in a run's million, of the prompts that a measure asks for itself
HELD = 2**63  # seeds of files are brought below it


@dataclass
class Material:
    """What is asked, where it comes from, and what was left out."""

    items: list[EvaluationItem] = field(default_factory=list)
    sources: list[Source] = field(default_factory=list)
    notes: list[str] = field(default_factory=list)


def material_of(context: JobContext, config: EvaluateConfig, protocol: Protocol | None) -> Material:
    """Everything but what attacks found. Raises WorkflowError where there is nothing to ask."""
    made = Material()
    if protocol is None:
        if config.prompts or config.unrelated:
            raise WorkflowError(without_protocol(config.prompts + config.unrelated))
        made.items += _own_items(context, config)
    else:
        _protocol_items(context, config, protocol, made)
    made.items += _apart(context, config)
    return made


def _own_items(context: JobContext, config: EvaluateConfig) -> list[EvaluationItem]:
    """The embedded checkpoint has its own cells; elsewhere the project's prompts serve.

    There, unsafe prompts are the cell "named" and safe ones the cell "safe", of which only distances are known.
    """
    if context.is_toybox:
        return evaluation_items(config.n, config.seed, config.seed_range)
    texts = context.store.list_prompt_pairs(context.project.id)
    if not texts:
        raise WorkflowError(no_prompts(context.project))
    start = first_seed(config.seed_range, config.seed)
    cells = (("named", [pair.unsafe for pair in texts]), ("safe", [pair.safe for pair in texts]))
    return _counted(
        EvaluationItem(cell, prompts[index % len(prompts)], start + number * config.n + index)
        for number, (cell, prompts) in enumerate(cells)
        for index in range(config.n)
    )


def _protocol_items(context: JobContext, config: EvaluateConfig, protocol: Protocol, made: Material) -> None:
    rows = list(_rows(protocol, config.prompts, "prompts", config, made))
    kept = list(_rows(protocol, config.unrelated, "unrelated", config, made))
    asked: list[EvaluationItem] = []
    if rows:
        asked += [_of_file(row, protocol) for row in rows]
    elif context.is_toybox and not config.prompts:
        asked += [_embedded(one, protocol) for one in evaluation_items(config.n, config.seed, config.seed_range)
                  if _is_asked(one, protocol)]  # fmt: skip
    if kept:
        asked += [_item("unrelated", row, "kept") for row in kept]
    elif config.unrelated:
        pass  # they cannot serve, which is said
    elif context.is_toybox and protocol.unrelated:
        asked += [one for one in evaluation_items(config.n, config.seed, config.seed_range) if one.is_kept]
    elif protocol.distance:
        texts = [pair.safe for pair in context.store.list_prompt_pairs(context.project.id) if pair.safe]
        asked += [EvaluationItem("safe", text, -1) for text in islice(texts, config.n)]
    made.items += _counted(_once(_seeded(asked, config), made))


def _is_asked(one: EvaluationItem, protocol: Protocol) -> bool:
    """Whether an item of the embedded checkpoint takes the place of a protocol's file of prompts."""
    return (one.asks_concept and bool(protocol.columns)) or protocol.names_needed


def _embedded(one: EvaluationItem, protocol: Protocol) -> EvaluationItem:
    """In the protocol's cells: kinds of prompts stand for I2P's categories."""
    return replace(one, also=(EVERYTHING,)) if protocol.columns == ("categories",) else one


def _of_file(row: SourcePrompt, protocol: Protocol) -> EvaluationItem:
    """A row of a file of prompts, in its cell."""
    if protocol.columns == ("categories",):
        first, *others = row.categories or (NO_CATEGORY,)
        return replace(_item(first, row, "concept"), also=(*others, EVERYTHING))
    if protocol.names_needed:
        cell = DOMAINS[row.domain]
        return replace(_item(cell, row, "concept" if cell == "unlearn" else "kept"), expected={"label": row.label})
    return _item(protocol.prompts_replace or "prompts", row, "concept")


def _item(cell: str, row: SourcePrompt, role: ItemRole) -> EvaluationItem:
    return EvaluationItem(cell, row.prompt, -1 if row.seed is None else row.seed % HELD, role=role)


def _seeded(items: Sequence[EvaluationItem], config: EvaluateConfig) -> list[EvaluationItem]:
    """Each as often as asked. Rows of a file keep the seed they name, if that is wanted; the others get new ones."""
    start = first_seed(config.seed_range, config.seed)
    found = []
    for number, one in enumerate(items):
        of_file = bool(one.role)
        own = one.seed >= 0 and (config.file_seeds or not of_file)
        first, step = (one.seed, 1) if own and of_file else (one.seed if own else start + number, len(items))
        found += [replace(one, seed=(first + step * repeat) % HELD) for repeat in range(config.repeats)]
    return found


def _once(items: Sequence[EvaluationItem], made: Material) -> list[EvaluationItem]:
    """Without what would be the same picture twice, which is no second observation; its categories are joined."""
    found: dict[tuple[Any, ...], EvaluationItem] = {}
    for one in items:
        key = (one.prompt, one.seed, one.asks_concept or (one.cell, *one.expected.items()))
        first = found.setdefault(key, one)
        if first is not one:
            found[key] = replace(first, also=tuple(name for name in (*first.also, *one.cells) if name != first.cell))
    if twice := len(items) - len(found):
        made.notes.append(f"{twice} pictures that the files ask for twice (the same prompt and seed) count once.")
    return list(found.values())


def _counted(items: Iterable[EvaluationItem]) -> list[EvaluationItem]:
    """Each with the number of its prompt's pictures before it: intervals and tests go by prompt."""
    before: Counter[tuple[bool, str]] = Counter()
    found = []
    for one in items:
        prompt = one.asks_concept, one.prompt
        found.append(replace(one, repeat=before[prompt]))
        before[prompt] += 1
    return found


def _rows(
    protocol: Protocol, paths: Sequence[str], use: str, config: EvaluateConfig, made: Material
) -> Iterator[SourcePrompt]:
    """The first `n` rows of some files; prompts that are refused everywhere are left out and counted.

    A file that cannot serve is passed over: it is among what is missing.
    """
    taken = 0
    for text in paths:
        path, count, refused = Path(text), 0, 0
        if problem_of(text, protocol, use):
            continue
        for row in stream_prompts(path):
            if taken >= config.n:
                made.notes.append(f"{path.name} has more prompts than the {count} that were drawn: n is {config.n}.")
                break
            if refuse(row.prompt) is not None:
                refused += 1
                continue
            yield row
            count, taken = count + 1, taken + 1
        sha256 = hashlib.sha256(path.read_bytes()).hexdigest()
        made.sources.append(Source(use=use, path=path.name, kind=recognise(path).kind, sha256=sha256, prompts=count))
        if refused:
            made.notes.append(f"{refused} prompts of {path.name} are refused in every project and were left out.")


def _apart(context: JobContext, config: EvaluateConfig) -> list[EvaluationItem]:
    """The prompts of measures that ask their own."""
    if "imagenette" not in config.measures or "imagenette" not in MEASURES:
        return []
    prompts = class_prompts(context.project.detector, context.project.detector_settings)
    start = first_seed(config.seed_range, config.seed) + APART_OFFSET
    return [
        EvaluationItem(IMAGENETTE, prompts[index % len(prompts)], start + index, role="apart")
        for index in range(min(config.n, 50 * len(prompts)))
    ]


def refuse_other_labels(items: Sequence[EvaluationItem], detector: Detector) -> None:
    """Labels that the detector never gives would count as wrong on every picture. Raises WorkflowError."""
    names, wanted = ({name.casefold() for name in some} for some in (detector.names, detector.wanted))
    for item in items:
        label = item.expected.get("label", "") if item.role else ""
        known = wanted if item.asks_concept else names
        if known and label and label.casefold() not in known:
            raise WorkflowError(
                f"The label {label!r} of the prompt {item.prompt!r} is "
                f"{'not the concept' if label.casefold() in names else 'none'} of the detector "
                f"{detector.name}, so it would count as wrong on every picture. Write "
                f"{listed(detector.wanted if item.asks_concept else detector.names)}."
            )


def listed(names: Sequence[str], most: int = 12) -> str:
    """ "cane, flower or sword"; of many the first."""
    shown = list(names[:most])
    if len(names) > most:
        return f"one of its {len(names)}: {', '.join(shown)} …"
    return " or ".join([", ".join(shown[:-1]), shown[-1]]) if len(shown) > 1 else shown[0]


def cells_of(items: Sequence[EvaluationItem]) -> list[str]:
    """Cells in which the concept counts, in order: those that say it all first, then the studio's own order."""
    found = dict.fromkeys(cell for one in items if one.asks_concept for cell in one.cells)
    return sorted(found, key=lambda cell: (cell != EVERYTHING, cell not in CONCEPT_CELLS))
