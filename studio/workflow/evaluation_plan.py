"""What an evaluation needs before its first picture: models, prompts, measures, and what is refused without them."""

from __future__ import annotations

from collections import Counter
from collections.abc import Sequence

from studio.configs import EvaluateConfig
from studio.evaluation_checks import lacking
from studio.metrics import MEASURES, best_distance
from studio.metrics.base import Detector, Measure, Metric, MetricUnavailable
from studio.prompts import EvaluationItem
from studio.protocols import PROTOCOLS, attacks_of, lacks
from studio.workflow.contestants import at_scales, contestants_of
from studio.workflow.context import JobContext, WorkflowError
from studio.workflow.drawing import Drawer
from studio.workflow.found import FoundItems, found_by
from studio.workflow.items import Material, material_of, refuse_other_labels


class Plan:
    """What an evaluation compares, on what and by what; refused here where something is missing."""

    def __init__(self, context: JobContext) -> None:
        self.context = context
        self.config = EvaluateConfig(**context.config)
        self.protocol = PROTOCOLS.get(self.config.protocol)
        self.contestants = contestants_of(context, self.config)
        self.trained = [one.checkpoint for one in self.contestants if one.checkpoint]
        self.attacks = self._attacks()
        self.missing = self._lacks()
        self.material: Material = material_of(context, self.config, self.protocol)
        self.items = self.material.items
        self.found = found_by(context, self.attacks)
        self.finds = {one.key: FoundItems(self.found, one) for one in self.contestants}
        self.few = [self.items[row] for row in first_of_each_cell(self.items, self.config.scale_pictures)]
        self.scaled = at_scales(self.contestants, self.config.scales)
        self.whole = sum(len(self.items) + len(self.finds[one.key].items) for one in self.contestants)
        self.total = self.whole + len(self.few) * len(self.scaled)
        self.detector: Detector = context.load_detector()
        self.distance: Metric
        self.distance, self.no_lpips = best_distance()
        self.measures = self._load_measures()
        self._refuse_what_is_missing()
        self.drawer = Drawer(context, self.config, self.total)
        self.shown = first_of_each_cell(self.items, self.config.gallery)

    def effective_config(self) -> EvaluateConfig:
        """The configuration with the models that are compared by name: later ones do not join a resumed comparison."""
        return self.config.model_copy(
            update={"checkpoint_ids": [one.id for one in self.trained], "attacks": self.attacks}
        )

    @staticmethod
    def is_asked(measure: Measure, item: EvaluationItem) -> bool:
        return item.cell == measure.asks if measure.asks else item.is_kept

    def _attacks(self) -> list[str]:
        """The attacks whose finds are drawn, fixed from here on: a later one does not join a resumed evaluation."""
        jobs = self.context.store.list_jobs(self.context.project.id)
        if self.protocol is None:
            return list(dict.fromkeys(self.config.attacks))
        return attacks_of(self.protocol, self.config, jobs, self.trained)

    def _lacks(self) -> list[str]:
        """What the protocol lacks: files, attacks, a detector."""
        if self.protocol is None:
            return []
        jobs = self.context.store.list_jobs(self.context.project.id)
        return lacks(self.protocol, self.config, self.context.project, jobs, self.trained)

    def _load_measures(self) -> list[Measure]:
        """What can be measured; what cannot is refused, or of a protocol goes to what is missing.

        Raises WorkflowError.
        """
        wanted = dict.fromkeys([*(self.protocol.measures if self.protocol else ()), *self.config.measures])
        loaded = []
        for name in wanted:
            try:
                measure = MEASURES[name]()
                self._check_number(name, measure)
            except (MetricUnavailable, WorkflowError) as error:
                words = str(error) if isinstance(error, WorkflowError) else f"{name} cannot be measured here. {error}"
                if not self.protocol:
                    raise WorkflowError(words) from None
                self.missing.append(words)
            else:
                loaded.append(measure)
        if self.protocol and self.protocol.distance and self.distance.name != self.protocol.distance:
            self.missing.append(f"{self.protocol.distance} cannot be measured here. {self.no_lpips}")
        return loaded

    def _check_number(self, name: str, measure: Measure) -> None:
        kept = sum(self.is_asked(measure, item) for item in self.items)
        if kept < measure.fewest:
            raise WorkflowError(
                f"{name} needs {measure.fewest} pictures of prompts without the concept; there would be {kept}. "
                f"Raise n ({self.config.n}) or leave {name} out."
            )

    def _refuse_what_is_missing(self) -> None:
        """Before the first picture. Raises WorkflowError."""
        refuse_other_labels(self.items, self.detector)
        if self.protocol and self.missing and not self.config.incomplete:
            raise WorkflowError(lacking(self.protocol, self.missing))
        if not self.items and not self.found:
            raise WorkflowError("Nothing is left to draw. Give the protocol a file of prompts.")


def first_of_each_cell(items: Sequence[EvaluationItem], count: int) -> list[int]:
    """The numbers of the first `count` items of each cell."""
    seen: Counter[str] = Counter()
    chosen = []
    for index, item in enumerate(items):
        seen[item.cell] += 1
        if seen[item.cell] <= count:
            chosen.append(index)
    return chosen
