"""A training's numbers for TensorBoard, Trackio or Weights & Biases as well, where DUO_STUDIO_TRACKERS asks for it.

Numbers, switches and choices of the method's configuration leave, never its texts: no prompt, no name, no picture.
"""

from __future__ import annotations

from collections.abc import Callable
from functools import partial
from types import TracebackType
from typing import Any, Literal, get_origin

from accelerate import Accelerator
from accelerate.tracking import get_available_trackers
from accelerate.utils import LoggerType

from studio.progress import Report
from studio.settings import Settings
from studio.training_configs import MethodConfig

PROJECT = "duo-studio"  # as trackers that keep several call it
# What else Weights & Biases would take along: the console with its prompts and paths, the code, the machine.
_NOTHING_ELSE = {
    "console": "off",
    "save_code": False,
    "disable_code": True,
    "disable_git": True,
    "x_disable_meta": True,
    "x_disable_stats": True,
    "x_disable_machine_info": True,
    "x_save_requirements": False,
}


class Tracking:
    """A report on its way to `report` that gives each step's values to the trackers too.

    A tracker that is not installed, does not start or fails is left out from there on: no training ends by it. The
    job's log and its message say so.
    """

    def __init__(
        self, settings: Settings, run: str, config: MethodConfig, facts: dict[str, str | int], report: Report
    ) -> None:
        """`run` names the training wherever its numbers go; `facts` go along with the configuration."""
        self._settings, self._run, self._report = settings, run, report
        self._values = {**facts, **without_texts(config)}
        self._at = (0, int(getattr(config, "steps", 1)))  # step, total
        self._live: dict[str, Accelerator] = {}

    def __enter__(self) -> Tracking:
        for name in self._settings.trackers:
            if LoggerType(name) not in get_available_trackers():
                self._say(f"The tracker {name} is not installed, so it gets no numbers: pip install {name}.")
            elif problem := self._problem(name, partial(self._start, name)):
                self._say(problem)
        return self

    def __call__(self, step: int, total: int, message: str = "", **values: float) -> None:
        """Trackers first: a stop is raised by the report, and the step it comes at has its values."""
        self._at = (step, total)
        if values:
            for name, accelerator in list(self._live.items()):
                if problem := self._problem(name, partial(accelerator.log, values, step=step)):
                    self._say(problem)
        self._report(step, total, message, **values)

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        for name, accelerator in list(self._live.items()):
            for tracker in accelerator.trackers:  # `end_training` would end the group of processes as well
                if problem := self._problem(name, tracker.finish):
                    print(problem, flush=True)  # the training is over: its message stays

    def _start(self, name: str) -> None:
        """One accelerator each, so that one tracker that fails takes no other along."""
        folder = self._settings.tracked
        accelerator = Accelerator(cpu=self._settings.device == "cpu", log_with=[name], project_dir=folder / name)
        again: dict[str, Any] = {"name": self._run, "resume": "allow"}
        options = {
            "wandb": {"id": self._run, "dir": str(folder), "settings": _NOTHING_ELSE, **again},
            "trackio": {"embed": False, "auto_log_gpu": False, "auto_log_cpu": False, **again},
        }
        folder.mkdir(parents=True, exist_ok=True)
        accelerator.init_trackers(self._run if name == "tensorboard" else PROJECT, self._values, options)
        self._live[name] = accelerator

    def _problem(self, name: str, action: Callable[[], Any]) -> str:
        """What went wrong, where something did; the tracker is then left out."""
        try:
            action()
        except Exception as error:  # whatever breaks in somebody else's tracker, the training goes on
            self._live.pop(name, None)
            return f"The tracker {name} failed and gets no more numbers: {type(error).__name__}: {error}"
        return ""

    def _say(self, text: str) -> None:
        print(text, flush=True)  # into the job's log
        self._report(*self._at, text)


def without_texts(config: MethodConfig) -> dict[str, bool | int | float | str]:
    """A configuration's numbers, switches and choices. Prompts and names are texts or lists of them."""
    fields = type(config).model_fields
    return {
        name: value
        for name, value in config
        if isinstance(value, bool | int | float) or get_origin(fields[name].annotation) is Literal
    }
