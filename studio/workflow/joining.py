"""Several processes for one job: each finds the others, its device, and its end when the one that started it is gone.

`studio.jobs` starts them with `accelerate launch`. The first one has the job's row; the others follow it.
"""

from __future__ import annotations

import os
import signal
import threading
import time
from dataclasses import replace

from accelerate import PartialState

from studio.methods.parallel import Group, current_group
from studio.settings import Settings

WATCH = 1.0  # seconds between two looks at who started this process


def join(settings: Settings) -> tuple[Group, Settings]:
    """This process's group, and the settings with its own device; alone where nobody launched it with others."""
    if int(os.environ.get("WORLD_SIZE", "1")) == 1:
        return Group(), settings
    _end_with(os.getppid())
    # A process that is ended while it waits for another one in C++ would leave no word; the broken wait does.
    signal.signal(signal.SIGTERM, lambda *_: None)
    state = PartialState(cpu=settings.device == "cpu")
    device = "cpu" if state.device.type == "cpu" else str(state.device)
    return current_group(), replace(settings, device=device)


def leave(group: Group) -> None:
    """Close what `join` opened."""
    if group.size > 1:
        PartialState().destroy_process_group()


def _end_with(parent: int) -> None:
    """Kill this process as soon as its parent is another one: a launcher that was killed takes nobody with it."""

    def watch() -> None:
        while os.getppid() == parent:
            time.sleep(WATCH)
        os.kill(os.getpid(), signal.SIGKILL)

    threading.Thread(target=watch, name="parent-watch", daemon=True).start()
