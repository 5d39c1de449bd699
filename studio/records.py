"""The records that all layers share: frozen dataclasses, no behaviour beyond derived properties.

Ids are short random hexadecimal strings made by the store; times are UTC seconds since 1970.
"""

from __future__ import annotations

import hashlib
import math
from dataclasses import dataclass, field
from typing import Any, Literal

JobKind = Literal[
    "pairs", "train", "evaluate", "demo", "attack", "transfer", "stress", "import", "bring", "push", "compose",
    "export", "strengths", "fetch", "sweep",
]  # fmt: skip
LauncherName = Literal["local", "accelerate", "hf_jobs"]
JobState = Literal["queued", "running", "stopping", "stopped", "done", "failed"]
VerdictValue = Literal["accept", "reject", "skip", "undo"]
StopAction = Literal["stop", "lift", "purge"]
PurgeScope = Literal["undecided", "pairs", "everything"]
PairFilter = Literal["undecided", "accepted", "rejected", "skipped", "detector", "second", "conflict", "all", "failed"]
PairSort = Literal["made", "unsafe", "safe", "distance", "tries", "prompt", "verdict", "reviewer"]
Range = tuple[float | None, float | None]  # from, to, both included; None: no bound

CONFLICT = "conflict"  # what a pair waits for whose two reviewers disagree: the owner's word
SECOND = "second:"  # … and one with one review of two, before the first reviewer's name

REFERENCE = "reference"  # the attack of rows that hold the original's picture of an attacked prompt

ELSEWHERE: tuple[LauncherName, ...] = ("hf_jobs",)  # whose jobs leave this machine's device alone
LIVE: tuple[JobState, ...] = ("running", "stopping")
FINAL_STATES: tuple[JobState, ...] = ("stopped", "done", "failed")


@dataclass(frozen=True)
class Project:
    """One concept to forget on one base checkpoint."""

    id: str
    name: str
    concept: str  # in words, e.g. "sword"
    checkpoint: str  # "toybox", a folder, a .safetensors file, or "owner/name@revision"
    detector: str  # a name from studio.metrics.DETECTORS
    detector_settings: dict[str, Any] = field(default_factory=dict)
    created: float = 0.0
    blur: bool = False  # pictures that the detector flags are shown blurred until they are revealed
    retention_days: int = 0  # undecided and rejected pictures are purged after so many days; 0: never
    second_share: float = 0.0  # of the pairs, 0 … 1, on which two people must agree
    notice: str = ""  # what its owner adds to the notice before the first pair
    day_minutes: float = 0.0  # that one person may look at its pairs in a day; 0: no limit
    day_pairs: int = 0  # … and pairs that one person may decide on

    @property
    def is_sensitive(self) -> bool:
        """Whether reviewers agree to a notice before they are sent anything of its pairs."""
        return self.blur


@dataclass(frozen=True)
class PromptPair:
    """An unsafe prompt, its safe twin, and how many image pairs to make of them."""

    id: str
    project_id: str
    unsafe: str
    safe: str
    count: int = 1
    seed: int = 0
    group: str = ""  # the sub-concept it belongs to: a training may make an adapter of each; "" is none


@dataclass(frozen=True)
class ImagePair:
    """An unsafe picture and its SDEdit twin. Pictures are named by the SHA-256 of their PNG file."""

    id: str
    project_id: str
    prompt_pair_id: str
    index: int  # 0 … count-1 within its prompt pair
    seed: int
    state: Literal["ready", "failed", "purged"]  # purged: its pictures were deleted, their names stay
    unsafe_image: str = ""
    safe_image: str = ""
    strength: float = 0.0
    tries: int = 0
    unsafe_score: float = 0.0  # detector's score of the concept in the unsafe picture, 0 … 1
    safe_score: float = 0.0
    distance: float | None = None  # LPIPS between the two, where its backbone is there
    reason: str = ""  # why a failed pair failed
    created: float = 0.0
    origin: Literal["made", "brought", "twin"] = "made"  # twin: only the unsafe picture came from outside
    source: dict[str, Any] = field(default_factory=dict, hash=False)  # from outside: file names, their SHA-256, key
    looks: str = ""  # difference hashes of both pictures, see studio.duplicates; "" until they were computed

    @property
    def version(self) -> str:
        """Another one once its pictures were made again. Names neither picture."""
        facts = f"{self.unsafe_image} {self.safe_image} {self.state} {self.tries} {self.seed}"
        return hashlib.sha256(facts.encode()).hexdigest()[:12]


@dataclass(frozen=True)
class PairCounts:
    """How a project's image pairs stand: what people see of their progress."""

    wanted: int = 0  # that its prompts ask for
    ready: int = 0
    failed: int = 0
    accepted: int = 0  # of the ready ones, by their current verdict
    rejected: int = 0
    skipped: int = 0
    by_detector: int = 0  # of the accepted and rejected ones, those that no person has decided on
    stopped: int = 0  # hidden since they may be illegal; in none of the other numbers but `wanted`
    second: int = 0  # of the undecided ones, those that wait for a second review
    conflicts: int = 0  # … and those on which two people disagree

    @property
    def undecided(self) -> int:
        """Ready, and neither accepted nor rejected: a skipped pair comes up again."""
        return self.ready - self.accepted - self.rejected


@dataclass(frozen=True)
class Verdict:
    """One decision about one pair. Append-only: undo is a new row that supersedes."""

    id: str
    pair_id: str
    reviewer: str  # a person's name, or "detector"
    verdict: VerdictValue
    reason: str = ""
    revealed: bool = False
    milliseconds: int = 0
    created: float = 0.0
    supersedes: str | None = None
    blind: bool = False  # filled by the store: the first or second of two reviews, given without seeing another one
    settles: bool = False  # the owner's word on a pair on which two people disagree
    bulk_id: str | None = None  # the action on many pairs that it is part of


@dataclass(frozen=True)
class SecondReviews:
    """How the pairs stand on which two people must agree."""

    chosen: int = 0  # by the project's share
    waiting: int = 0  # reviewed once
    open: int = 0  # two people disagree
    decided: int = 0  # by agreement, or settled
    settled: int = 0  # by the owner


@dataclass(frozen=True)
class CareDay:
    """One reviewer's day in one project."""

    reviewer: str
    seconds: float = 0.0  # of looking: see CareRows.note_sign
    since_break: float = 0.0
    postponed: bool = False  # the break that is due was put off once
    pairs: int = 0  # decided on or skipped, one by one
    last_pair: str = ""
    sessions: int = 1  # by the owner's word more than one: limits count as often


@dataclass(frozen=True)
class Edit:
    """One of several edits of a pair's unsafe picture, which differ in their strength alone; the first is its twin."""

    id: str
    job_id: str
    pair_id: str
    position: int  # 0: the twin that the pair had when the job began
    unsafe_image: str  # of which it is an edit
    image: str  # SHA-256 of the PNG file; its latents lie beside the pair's
    strength: float
    seed: int | None  # None: of the twin that was there, not known
    score: float  # the detector's, of the concept
    distance: float | None = None
    created: float = 0.0


@dataclass(frozen=True)
class Coverage:
    """What there is of one prompt pair, against what it asks for."""

    prompts: PromptPair
    ready: int = 0
    failed: int = 0
    accepted: int = 0
    rejected: int = 0


@dataclass(frozen=True)
class ReviewerWork:
    """What one person has done in a project."""

    reviewer: str
    accepted: int
    rejected: int
    skipped: int
    in_bulk: int  # of these, those that were given to many pairs at once
    settled: int  # of these, words on a disagreement
    revealed: int  # of these, those before which blurred pictures were revealed
    seconds: float | None  # the median time of a decision, None where none was measured


@dataclass(frozen=True)
class BulkAction:
    """One decision about many pairs, taken back as a whole. Its verdicts name it."""

    id: str
    project_id: str
    reviewer: str
    what: dict[str, Any]  # which pairs, as they were asked for, and in words
    done: bool = False  # False: its verdicts are still being written, or their writer was killed
    undone: bool = False
    created: float = 0.0


@dataclass(frozen=True)
class Triage:
    """Thresholds by which a pair is proposed to be accepted (all that are set must hold) or rejected (any suffices).

    A proposal is no decision. Where both hold, rejecting is proposed; where the distance was not measured, no threshold
    on it holds.
    """

    accept_unsafe: float | None = None  # the unsafe picture's score is at least this
    accept_safe: float | None = None  # the safe one's at most
    accept_distance: float | None = None  # at most
    reject_unsafe: float | None = None  # at most
    reject_safe: float | None = None  # at least
    reject_distance: float | None = None  # at least

    def proposes(self, pair: ImagePair) -> Literal["accept", "reject", "none"]:
        far = -math.inf if pair.distance is None else pair.distance
        rejects = (
            (self.reject_unsafe is not None and pair.unsafe_score <= self.reject_unsafe)
            or (self.reject_safe is not None and pair.safe_score >= self.reject_safe)
            or (self.reject_distance is not None and far >= self.reject_distance)
        )
        if rejects:
            return "reject"
        near = math.inf if pair.distance is None else pair.distance
        holds = [
            self.accept_unsafe is None or pair.unsafe_score >= self.accept_unsafe,
            self.accept_safe is None or pair.safe_score <= self.accept_safe,
            self.accept_distance is None or near <= self.accept_distance,
        ]
        asked = (self.accept_unsafe, self.accept_safe, self.accept_distance) != (None, None, None)
        return "accept" if asked and all(holds) else "none"


@dataclass(frozen=True)
class PairStop:
    """A pair that may be illegal was hidden from everyone, shown again, or its files deleted. Append-only."""

    id: str
    pair_id: str
    action: StopAction
    reviewer: str  # who did it
    reason: str = ""  # never empty of a lift or a purge
    unsafe_sha256: str = ""  # the pictures that are meant
    safe_sha256: str = ""
    created: float = 0.0


@dataclass(frozen=True)
class PictureUse:
    """One row that names a picture."""

    project_id: str
    what: Literal["unsafe", "safe", "drawn"]  # a side of a pair, or drawn by a model to be looked at
    found: bool | None  # the detector's verdict on what was drawn, None where it gave none; None of a pair
    score: float | None


@dataclass(frozen=True)
class Purge:
    """Pictures of a project that were deleted for good. Append-only; the names of the pictures are kept beside it."""

    id: str
    project_id: str
    scope: PurgeScope
    by: str  # who did it, or "retention"
    reason: str
    pairs: int  # whose pictures went
    files: int
    bytes: int
    created: float = 0.0


@dataclass(frozen=True)
class PairQuery:
    """Which of a project's pairs to list, and in which order."""

    shows: PairFilter = "undecided"
    sort: PairSort = "made"
    prompt_pair_id: str = ""  # of this prompt pair alone
    viewer: str = ""  # "undecided" leaves out what waits for somebody else's second review
    reverse: bool = False
    decided_by: str = ""  # whose verdict counts
    words: str = ""  # in either prompt
    unsafe: Range = (None, None)  # the detector's score
    safe: Range = (None, None)
    distance: Range = (None, None)
    tries: Range = (None, None)
    until: float | None = None  # made no later than this moment
    ids: tuple[str, ...] = ()  # of these pairs alone
    triage: Triage | None = None
    proposal: Literal["", "accept", "reject", "none"] = ""  # of the triage; "" any


@dataclass(frozen=True)
class CuratedPair:
    """An image pair as a reviewer meets it."""

    pair: ImagePair
    prompts: PromptPair
    verdict: Verdict | None  # the one that counts
    again: bool  # a waiting or running job makes it again
    waits: str = ""  # "", CONFLICT, or SECOND and the first reviewer's name
    own: Verdict | None = None  # the viewer's, of a pair that waits


@dataclass(frozen=True)
class Job:
    """One piece of background work: one row, one child process."""

    id: str
    project_id: str
    kind: JobKind
    config: dict[str, Any]  # effective: what is really used
    state: JobState = "queued"
    step: int = 0
    total: int = 0
    eta_seconds: float | None = None
    pid: int | None = None
    pid_started: float | None = None  # guards against a reused pid; see studio.processes.start_time
    heartbeat: float | None = None
    message: str = ""  # last line of progress, in words
    error: str = ""
    result: dict[str, Any] = field(default_factory=dict)
    created: float = 0.0
    started: float | None = None
    stop_asked: float | None = None  # when a stop was first asked for; its grace period starts here
    finished: float | None = None
    asked_by: str = ""  # who signed in and asked for it; "" in a shell, and where nobody signs in
    launcher: LauncherName = "local"  # what starts its work: see studio.launchers
    place: dict[str, Any] = field(default_factory=dict)  # what the launcher keeps: time-out, machine, remote job
    refused: bool = False  # failed by what it was asked for, which does not change: a resume would fail again

    @property
    def is_final(self) -> bool:
        return self.state in FINAL_STATES


@dataclass(frozen=True)
class Checkpoint:
    """A trained model: a delta file on top of the project's base checkpoint."""

    id: str
    project_id: str
    job_id: str
    method: str  # "duo", "esd", …
    name: str  # as shown on the page
    path: str  # a safetensors file
    sha256: str
    kind: Literal["lora", "weights"]
    config: dict[str, Any] = field(default_factory=dict)
    train_seconds: float = 0.0
    created: float = 0.0


@dataclass(frozen=True)
class Evaluation:
    """One finished comparison of models: where its report lies."""

    id: str
    project_id: str
    job_id: str
    folder: str  # holds report.json, report.html and pictures
    report: dict[str, Any] = field(default_factory=dict)
    created: float = 0.0


@dataclass(frozen=True)
class PromptShelf:
    """Prompts that were put aside under a name, with the seeds they were drawn from."""

    id: str
    project_id: str
    name: str  # unique in its project
    prompts: str  # one a line
    seed: int = 0
    count: int = 1  # pictures a prompt: this seed and the next ones
    created: float = 0.0


@dataclass(frozen=True)
class Attempt:
    """One model's picture of a prompt that somebody typed to make it draw the concept, as the detector judged it.

    A model is its checkpoint and its adapter: the same prompt and seed by the same model is one attempt.
    """

    id: str
    project_id: str
    prompt: str
    seed: int
    model: str  # as it was called then
    checkpoint: str  # the reference, e.g. "toybox"
    adapter_sha256: str  # "" without an adapter
    found: bool
    score: float
    image: str  # SHA-256 of the PNG file
    steps: int
    guidance_scale: float
    created: float = 0.0


@dataclass(frozen=True)
class Sample:
    """One picture drawn in the middle of a training, with the model as it was after `step` optimizer steps."""

    id: str
    job_id: str
    stage: str  # of a demo: which of its trainings; "" where the job is one training
    step: int  # 0 is the original
    position: int  # of the prompt in its row
    prompt: str
    seed: int
    unwanted: bool  # whether the prompt asks for the concept; False: it should stay as it was
    image: str  # SHA-256 of the PNG file
    found: bool | None = None  # the detector's verdict, None without one
    score: float | None = None
    seen: str = ""  # the object that the detector saw, where it names one


@dataclass(frozen=True)
class AttackRun:
    """One prompt attacked on one model, judged: what was asked, what was found, what it took, what it showed."""

    id: str
    project_id: str
    job_id: str
    attack: str  # "ring_a_bell", or a control's name
    role: Literal["plain", "attack", "control"]  # its part in the job
    config: dict[str, Any]  # effective
    victim: str  # "original", "oracle" or a checkpoint's id
    victim_name: str  # as it was called then
    victim_sha256: str  # of its adapter's file; without an adapter, of its weights
    detector: str
    detector_version: str
    detector_settings: dict[str, Any]  # threshold, labels …
    sampling: dict[str, Any]  # steps, guidance_scale
    prompt: str  # that was attacked with
    seed: int
    found_prompt: str  # that was drawn
    embedding: str  # SHA-256 of the safetensors file that was drawn in the prompt's place, "" without one
    queries: int  # pictures of the victim judged before the final ones
    text_passes: int
    forward: int
    backward: int
    seconds: float
    pre_success: bool  # the plain prompt showed the concept on this seed
    success: bool  # so did what was found, on this seed (or the one that was found)
    score: float
    fresh_successes: int  # on fresh seeds, the same for all that a prompt is drawn with
    fresh_count: int
    fresh_first: bool  # on the first of them: the one picture a prompt that tests pair
    image: str  # SHA-256 of the PNG file of this seed, "" where nothing was drawn
    refused: str = ""  # why nothing was drawn
    created: float = 0.0


@dataclass(frozen=True)
class Trial:
    """How often one model showed the concept under one condition, one picture a prompt."""

    id: str
    project_id: str
    job_id: str
    condition: str  # of a stress job, "guidance 7.5"; of a transfer, the model that the prompts were found on
    victim: str  # "original", "oracle" or a checkpoint's id
    victim_name: str  # as it was called then
    victim_sha256: str  # of its adapter's file; without an adapter, of its weights
    found: int  # pictures that show the concept …
    n: int  # … of so many
    facts: dict[str, Any] = field(default_factory=dict, hash=False)  # the condition in words, its group, a step …
    created: float = 0.0
