"""What starts a job's work: a child process, several of them, or a machine at Hugging Face. Torch-free.

Whatever the launcher, a child process of this machine has the row: it works itself, or it attends to work elsewhere.
"""

from studio.launchers.accelerate import ACCELERATE
from studio.launchers.base import Launcher, LaunchError
from studio.launchers.hf_jobs import HF_JOBS
from studio.launchers.local import LOCAL
from studio.records import LauncherName

LAUNCHERS: tuple[Launcher, ...] = (LOCAL, ACCELERATE, HF_JOBS)

__all__ = ["ACCELERATE", "HF_JOBS", "LAUNCHERS", "LOCAL", "LaunchError", "Launcher", "get_launcher"]


def get_launcher(name: LauncherName | str) -> Launcher:
    """Raises LaunchError where there is none of that name."""
    for launcher in LAUNCHERS:
        if launcher.name == name:
            return launcher
    known = ", ".join(launcher.name for launcher in LAUNCHERS)
    raise LaunchError(f"There is no launcher {name!r}; use {known}.")
