"""A machine of Hugging Face Jobs: what is asked for there, by whom, and what it costs.

The process that has the row attends to it (`studio.launchers.attend`) and takes nothing of this machine's device. The
work goes on without that process, so another one takes its place where it is gone.
"""

from __future__ import annotations

import time
from collections.abc import Mapping, Sequence
from dataclasses import asdict, dataclass
from typing import Any

from studio.launch_options import HfJobsOptions, OptionsError, options_from
from studio.launchers.base import LaunchError
from studio.records import Job, LauncherName
from studio.settings import Settings

ATTENDANT = ("-m", "studio.launchers.attend")
MOST_ATTENDANTS = 5  # that may end one after the other without a word from Hugging Face
PRICES = "https://huggingface.co/docs/hub/jobs-pricing"
PRICES_LAST = 600.0  # seconds
NO_TOKEN = (
    "Hugging Face Jobs needs a token that may write: run `hf auth login` as the user who runs the studio, or set "
    "HF_TOKEN before it starts."
)
# What the machine there does: this very code and this job's inputs, of one commit of the job's repository.
COMMAND = """set -eu
python -m pip install --quiet --disable-pip-version-check huggingface_hub=={hub}
hf download "$DUO_STUDIO_REPOSITORY" source.zip --repo-type dataset --revision "$DUO_STUDIO_REVISION" --local-dir .
python -m zipfile -e source.zip source
cd source
python -m pip install --quiet --disable-pip-version-check -r requirements.txt
exec python -m studio remote run --repository "$DUO_STUDIO_REPOSITORY" --revision "$DUO_STUDIO_REVISION"
"""


@dataclass(frozen=True)
class HfJobs:
    name: LauncherName = "hf_jobs"
    title: str = "Hugging Face Jobs"
    grace: float = 90.0  # it waits for Hugging Face's word that the machine has ended

    def place(self, settings: Settings, job_config: Mapping[str, Any], asked: Mapping[str, Any]) -> dict[str, Any]:
        if why := not_here():
            raise LaunchError(why)
        return asdict(self.options(settings, asked))

    def options(self, settings: Settings, asked: Mapping[str, Any]) -> HfJobsOptions:
        """What was asked for over what the settings say. Raises LaunchError."""
        given = {name: value for name, value in asked.items() if name != "launcher"}
        try:
            return options_from(given, settings.hf_jobs)
        except OptionsError as error:
            raise LaunchError(f"{self.title}: {error}") from error

    def arguments(self, worker: Sequence[str], job: Job) -> list[str]:
        return [*ATTENDANT, job.id]

    def goes_on(self, job: Job) -> bool:
        return job.place.get("attendants", 0) < MOST_ATTENDANTS


HF_JOBS = HfJobs()


def not_here() -> str:
    """Why nothing can be started at Hugging Face, "" where it can."""
    from huggingface_hub import get_token

    return "" if get_token() else NO_TOKEN


def token_here() -> str:
    """The token. Raises LaunchError where there is none."""
    from huggingface_hub import get_token

    if token := get_token():
        return token
    raise LaunchError(NO_TOKEN)


@dataclass(frozen=True)
class Machine:
    """One that can be had, as Hugging Face lists it."""

    flavor: str
    title: str
    facts: str  # "4 vCPU, 15 GB, T4 16 GB"
    dollars_an_hour: float | None


_seen: tuple[float, list[Machine]] = (0.0, [])


def machines() -> list[Machine]:
    """What can be had and what it costs, as Hugging Face says now; [] where it cannot be asked."""
    global _seen
    if _seen[1] and time.monotonic() - _seen[0] < PRICES_LAST:
        return _seen[1]
    from huggingface_hub import HfApi

    try:
        found = [_machine(hardware) for hardware in HfApi().list_jobs_hardware()]
    except Exception:  # no price is no reason not to train: whoever asks is told where to look
        return []
    _seen = (time.monotonic(), found)
    return found


def flavors() -> list[str]:
    """The names that this huggingface_hub knows, for a form, without asking anybody."""
    from huggingface_hub import JobHardware

    return [flavor.value for flavor in JobHardware]


def cost_words(options: HfJobsOptions, known: Sequence[Machine]) -> str:
    """What a training there costs at most, before it is started."""
    machine = next((one for one in known if one.flavor == options.flavor), None)
    ends = f"Hugging Face ends it after {options.timeout_minutes:g} minutes"
    if machine is None or machine.dollars_an_hour is None:
        why = f"{options.flavor} is not on its list of machines" if known else "it could not be asked for its prices"
        return f"{ends}, paid by the minute; {why}: see {PRICES}."
    most = machine.dollars_an_hour * options.timeout_minutes / 60
    what = f"{options.flavor} ({machine.facts})" if machine.facts else options.flavor
    return f"{what} costs ${machine.dollars_an_hour:.2f} an hour. {ends}, so it costs ${most:.2f} at most."


def _machine(hardware: Any) -> Machine:
    per_hour = {"minute": 60, "hour": 1, "second": 3600}.get(hardware.unit_label)
    card = hardware.accelerator
    facts = [hardware.cpu, hardware.ram]
    facts += [f"{card.quantity} x {card.model} {card.vram}"] if card else []
    dollars = hardware.unit_cost_usd * per_hour if per_hour else None
    return Machine(hardware.name, hardware.pretty_name, ", ".join(filter(None, facts)), dollars)
