"""Bring: people's own pairs as pairs of the project, and twins for unsafe pictures that come alone.

Entries are settled one by one, each in one change of the store, after its pictures and latents lie on the disk: a
killed worker loses none, a second run passes over what is settled. What is not taken is listed with its reason.
"""

from __future__ import annotations

import hashlib
import json
import secrets
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
import torch

from studio.configs import BringConfig
from studio.exchange.layouts import Wanted, entries, survey
from studio.exchange.pictures import MAX_FILE, PictureError, fitted, read_picture
from studio.exchange.records import Entry, Picture
from studio.exchange.sources import Member, Source, SourceError, open_source
from studio.exchange.uploads import delete_upload
from studio.images import put_image
from studio.metrics.base import Detection
from studio.records import ImagePair, PromptPair, Verdict, VerdictValue
from studio.workflow.candidates import Candidate
from studio.workflow.context import JobContext, WorkflowError
from studio.workflow.latents import write_latents
from studio.workflow.pairs import PairMaker

STOPPED = "This picture was stopped before, since it may be illegal: it is not brought in again."


class NotTakenError(ValueError):
    """An entry that is not taken: (name, reason) of each of its files."""

    def __init__(self, *refusals: tuple[str, str]) -> None:
        super().__init__(str(refusals))
        self.refusals = refusals


@dataclass
class Brought:
    """An entry that was read: its pictures as the project has them."""

    position: int
    entry: Entry
    source: dict[str, Any]  # for the pair's row
    unsafe: np.ndarray  # uint8 [side, side, 3]
    safe: np.ndarray | None  # None: it is to be made

    @property
    def prompts(self) -> tuple[str, str]:
        return self.entry.unsafe_prompt, self.entry.safe_prompt


def bring(context: JobContext) -> dict[str, Any]:
    """Take what lies at the job's path; returns how many entries came to which end.

    Raises:
        WorkflowError: it cannot be opened at all.
    """
    config = BringConfig.model_validate(context.config)
    path = context.settings.data / config.path
    try:
        with open_source(path) as source:
            Bringer(context, config, source).run()
    except SourceError as error:
        raise WorkflowError(str(error)) from error
    delete_upload(context.settings, path)
    counts = context.store.brought_counts(context.job.id)
    return {**counts, "files_refused": context.store.count_refusals(context.job.id)}


class Bringer(PairMaker):
    """Reads entries, a batch at a time; what comes whole is written, what comes alone is edited as pairs are."""

    config: BringConfig

    def __init__(self, context: JobContext, config: BringConfig, source: Source) -> None:
        self.wanted = Wanted(config.make_twins, config.unsafe_prompt, config.safe_prompt)
        self.source = source
        self.members = {member.name: member for member in source.members}
        self.done = context.store.brought_positions(context.job.id)
        super().__init__(context, config, [], len(self.done))
        self.total = survey(source, self.wanted).total
        self.known = context.store.brought_keys(context.project.id)
        self.stopped = context.store.stopped_pictures()
        before = context.store.brought_counts(context.job.id)
        self.taken, self.failed = before.get("taken", 0), before.get("refused", 0)
        self.whole: list[Brought] = []
        self.alone: dict[int, Brought] = {}  # by position

    def run(self) -> None:
        size = self.config.batch_size
        for position, entry in self._unsettled():
            self.tell()
            if brought := self._read_or_refuse(position, entry):
                self._queue(brought)
            if len(self.whole) >= size:
                self._write_whole()
            while self.edit_a_batch(at_least=size):
                self.tell()
        self._write_whole()
        while self.edit_a_batch(at_least=1):
            self.tell()
        self.total = self.settled
        self.tell()

    def tell(self) -> None:
        refused = f", {self.failed} refused" if self.failed else ""
        self.context.report(
            self.settled, self.total, f"{self.settled} of {self.total} read, {self.taken} taken{refused}"
        )

    def _unsettled(self) -> Iterator[tuple[int, Entry]]:
        """Entries that no run before has settled, as long as more may be taken."""
        limit = self.config.limit
        for position, entry in enumerate(entries(self.source, self.wanted)):
            while limit and self.taken + len(self.whole) + len(self.alone) >= limit:
                if not (self.whole or self.alone):
                    return
                self._write_whole()  # what is under way may still be refused
                self.edit_a_batch(at_least=1)
            if position not in self.done:
                yield position, entry

    def _read_or_refuse(self, position: int, entry: Entry) -> Brought | None:
        """The entry's pictures; None where it is settled without them."""
        if entry.outcome != "take" and not entry.problem:
            self._settle(position, entry.outcome)
            return None
        try:
            if entry.problem or entry.unsafe is None:
                raise NotTakenError((entry.name, entry.problem))
            brought = self._read(position, entry)
        except NotTakenError as error:
            self._settle(position, "refused", refusals=error.refusals)
            return None
        if brought.source["key"] in self.known:
            self._settle(position, "known")
            return None
        self.known.add(brought.source["key"])
        return brought

    def _read(self, position: int, entry: Entry) -> Brought:
        """Raises NotTakenError, which names each of its files."""
        assert entry.unsafe is not None
        sides = {"unsafe": entry.unsafe} | ({"safe": entry.safe} if entry.safe else {})
        files: dict[str, bytes] = {}
        pictures: dict[str, np.ndarray] = {}
        wrong: dict[str, str] = {}
        for side, picture in sides.items():
            try:
                files[side] = self._bytes(picture)
                pictures[side] = fitted(read_picture(files[side]), self.bundle.spec.resolution, self.config.fit)
            except (PictureError, SourceError) as error:
                wrong[side] = str(error)
        hashes = {side: hashlib.sha256(data).hexdigest() for side, data in files.items()}
        wrong |= {side: STOPPED for side, name in hashes.items() if name in self.stopped}
        if not wrong and len(pictures) == 2 and np.array_equal(pictures["unsafe"], pictures["safe"]):
            wrong = dict.fromkeys(sides, "Both pictures of the pair are the same: there is nothing to prefer.")
        if wrong:
            raise NotTakenError(
                *((sides[side].name, wrong.get(side) or "Its twin was not taken.") for side in sides),
            )
        told = json.dumps([hashes, entry.unsafe_prompt, entry.safe_prompt, self.config.fit])
        key = hashlib.sha256(told.encode()).hexdigest()[:32]
        source = {"from": self.config.name or self.source.name, "job": self.context.job.id, "key": key}
        for side, name in hashes.items():
            source |= {side: sides[side].name, f"{side}_sha256": name}
        return Brought(position, entry, source, pictures["unsafe"], pictures.get("safe"))

    def _bytes(self, picture: Picture) -> bytes:
        data = picture.data
        if data is None:
            data = self.source.read(self.members.get(picture.name) or Member(picture.name, 0), MAX_FILE)
        return data

    def _queue(self, brought: Brought) -> None:
        if brought.safe is not None:
            self.whole.append(brought)
            return
        unsafe_image = put_image(self.context.settings, brought.unsafe)
        if self._refuse_stopped(brought, unsafe_image):
            return
        (detection,) = self.detector.detect(brought.unsafe[None])
        candidate = Candidate(
            PromptPair("", self.context.project.id, *brought.prompts),
            brought.position,  # its seeds hang on it, so that a resumed job makes the same twin
            self.config.strength,
            latents=self._latents([brought.unsafe])[0],
            image=brought.unsafe,
            unsafe_image=unsafe_image,
            detection=detection,
        )
        self.alone[brought.position] = brought
        self.editing.setdefault(candidate.strength, []).append(candidate)

    def _write_whole(self) -> None:
        """Encode and judge the pairs that wait, and write them one by one."""
        waiting, self.whole = self.whole, []
        if not waiting:
            return
        safe_pictures = [brought.safe for brought in waiting if brought.safe is not None]
        pictures = [*(brought.unsafe for brought in waiting), *safe_pictures]
        latents = self._latents(pictures).split(len(waiting))
        found = self.detector.detect(np.stack(pictures))
        for row, brought in enumerate(waiting):
            both = found[row], found[row + len(waiting)]
            self._write_pair(brought, safe_pictures[row], latents[0][row], latents[1][row], both)

    def _write_pair(
        self,
        brought: Brought,
        safe: np.ndarray,
        unsafe_latents: torch.Tensor,
        safe_latents: torch.Tensor,
        found: tuple[Detection, Detection],
    ) -> None:
        settings, config, entry = self.context.settings, self.config, brought.entry
        unsafe_image, safe_image = put_image(settings, brought.unsafe), put_image(settings, safe)
        if self._refuse_stopped(brought, unsafe_image, safe_image):
            return
        pair = ImagePair(
            secrets.token_hex(6),
            self.context.project.id,
            "",
            0,
            seed=0,
            state="ready",
            unsafe_image=unsafe_image,
            safe_image=safe_image,
            unsafe_score=found[0].score,
            safe_score=found[1].score,
            distance=self._distance(brought.unsafe, safe),
            origin="brought",
            source=brought.source,
        )
        write_latents(settings, pair.id, safe_image, unsafe_latents, safe_latents, self.fingerprint)
        verdict = None
        if config.accept_as:
            value: VerdictValue = "reject" if entry.decision == "reject" else "accept"
            verdict = Verdict("", pair.id, config.accept_as, value, f"brought from {brought.source['from']}")
        self._settle(brought.position, "taken", pair=pair, prompts=brought.prompts, verdict=verdict)

    def _write(self, candidate: Candidate, pair_id: str, **fields: Any) -> None:
        """A twin that was made, or could not be made within the tries."""
        brought = self.alone.pop(candidate.index)
        if fields["state"] == "failed":
            self._settle(brought.position, "refused", refusals=[(brought.entry.name, fields["reason"])])
            return
        fields |= {"strength": candidate.strength, "tries": candidate.tries, "seed": 0, "source": brought.source}
        pair = ImagePair(pair_id, self.context.project.id, "", 0, origin="twin", **fields)
        self._settle(brought.position, "taken", pair=pair, prompts=brought.prompts)

    def _refuse_stopped(self, brought: Brought, *names: str) -> bool:
        if not self.stopped.intersection(names):
            return False
        files = [side.name for side in (brought.entry.unsafe, brought.entry.safe) if side is not None]
        self._settle(brought.position, "refused", refusals=[(file, STOPPED) for file in files])
        return True

    def _settle(self, position: int, outcome: Any, *, refusals: Sequence[tuple[str, str]] = (), **pair: Any) -> None:
        self.context.store.settle_brought(self.context.job.id, position, outcome, refusals=refusals, **pair)
        self.settled += 1
        self.taken += outcome == "taken"
        self.failed += outcome == "refused"

    def _latents(self, pictures: Sequence[np.ndarray]) -> torch.Tensor:
        """[N, C, h, w] on the CPU, of uint8 pictures [side, side, 3]."""
        scaled = torch.from_numpy(np.stack(pictures)).permute(0, 3, 1, 2).float() / 127.5 - 1.0
        return self.bundle.encode_image(scaled).cpu()
