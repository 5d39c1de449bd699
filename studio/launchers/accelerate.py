"""Several processes for one job, started by `accelerate launch`: on this machine, or as a configuration file says.

accelerate ends all processes of this machine when one of them fails. The first one has the job's row.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import yaml

from studio.groups import OPTION as GROUPED
from studio.launchers.base import LaunchError, only_known, within
from studio.launchers.local import LOCAL
from studio.records import Job, LauncherName
from studio.settings import Settings

LAUNCH = ("-m", "accelerate.commands.launch")
TOGETHER = (*LAUNCH, "--multi_gpu", "--num_machines", "1", "--mixed_precision", "no", "--dynamo_backend", "no",
            "--main_process_port", "0")  # fmt: skip


@dataclass(frozen=True)
class Accelerate:
    name: LauncherName = "accelerate"
    title: str = "Several processes of this machine"
    grace: float = 10.0

    def place(self, settings: Settings, job_config: Mapping[str, Any], asked: Mapping[str, Any]) -> dict[str, Any]:
        only_known(asked, ("timeout_minutes", "config_file"), "accelerate")
        kept = within(asked)
        if given := asked.get("config_file") or settings.accelerate_config:
            path = Path(str(given)).expanduser().absolute()
            count, processes = processes_of(path), job_config.get("processes", 1)
            if count != processes:
                raise LaunchError(
                    f"{path} starts {count} processes, but the job is for {processes}. Make them equal, by "
                    "num_processes there or --processes here."
                )
            if job_config.get("config", {}).get(GROUPED) and machines_of(path) > 1:
                raise LaunchError(
                    f"{GROUPED} trains one adapter after the other, which several machines do not follow. Turn it off, "
                    "or use the processes of one machine."
                )
            kept["config_file"] = str(path)
        return kept

    def arguments(self, worker: Sequence[str], job: Job) -> list[str]:
        count = job.config.get("processes", 1)
        config = job.place.get("config_file")
        if worker[:1] != ("-m",) or (count == 1 and not config):
            return LOCAL.arguments(worker, job)
        if config:
            return [*LAUNCH, "--config_file", config, "--module", worker[1], job.id]
        return [*TOGETHER, "--num_processes", str(count), "--module", worker[1], job.id]

    def goes_on(self, job: Job) -> bool:
        return False


def follower_arguments(config: Path, rank: int, module: str, job_id: str) -> list[str]:
    """Python's arguments on the other machines of a training, whose first one is 0."""
    return [*LAUNCH, "--config_file", str(config), "--machine_rank", str(rank), "--module", module, job_id]


def processes_of(path: Path) -> int:
    """How many processes a configuration of accelerate starts on all its machines. Raises LaunchError."""
    return _count(path, "num_processes")


def machines_of(path: Path) -> int:
    """… and on how many machines."""
    return _count(path, "num_machines")


def _count(path: Path, name: str) -> int:
    try:
        told = yaml.safe_load(path.read_text(encoding="utf-8"))
        count = told[name]
    except (OSError, yaml.YAMLError, KeyError, TypeError, UnicodeDecodeError) as error:
        raise LaunchError(
            f"{path} is no configuration of accelerate ({type(error).__name__}: {error}). Make one with `accelerate "
            "config`, or take docs/launchers/two-nodes.yaml."
        ) from error
    if not isinstance(count, int) or isinstance(count, bool) or not 1 <= count <= 1024:
        raise LaunchError(f"{path} has {name} {count!r}; it must be a whole number from 1 to 1024.")
    return count


ACCELERATE = Accelerate()
