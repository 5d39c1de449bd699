"""Models that are attacked or compared one after the other: each base loads once, whatever adapters are put on it."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path

from models.adapters import applied, checked_sha256, load_delta
from models.bundle import ModelBundle
from models.fingerprint import fingerprint_of
from studio.workflow.contestants import Contestant
from studio.workflow.context import JobContext


@dataclass(frozen=True)
class Victim:
    """A model ready to draw."""

    model: Contestant
    bundle: ModelBundle
    sha256: str  # of its adapter's file, or of its weights
    number: int  # its place in the job


class Lineup:
    """Makes models ready, for a job whose progress is `steps` a model of `total`."""

    def __init__(self, context: JobContext, steps: int, total: int) -> None:
        self.context, self.steps, self.total = context, steps, total
        self.bundles: dict[str, ModelBundle] = {}

    @contextmanager
    def ready(self, model: Contestant, number: int, scale: float = 1.0) -> Iterator[Victim]:
        """The model, its adapter at `scale`; 0 leaves it out."""
        bundle = self.load(model.reference, number)
        if model.checkpoint is None:
            yield Victim(model, bundle, fingerprint_of(bundle), number)
            return
        path = Path(model.checkpoint.path)
        sha256 = checked_sha256(path, model.checkpoint.sha256)
        with applied(bundle, load_delta(path) if scale else None, scale):
            yield Victim(model, bundle, sha256, number)

    def load(self, reference: str, number: int = 0) -> ModelBundle:
        if reference not in self.bundles:
            self.bundles[reference] = self.context.load_bundle(reference, number * self.steps, self.total)
        return self.bundles[reference]
