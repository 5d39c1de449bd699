"""Several processes for one job: each finds the others, its device, and its end when the one that started it is gone.

`studio.jobs` starts them with `accelerate launch`. The first one has the job's row; the others follow it.
"""

from __future__ import annotations

import os
import signal
import sys
import threading
import time
from collections.abc import Callable
from dataclasses import replace
from typing import NoReturn

from accelerate import PartialState

from studio.methods.parallel import Group, current_group
from studio.settings import Settings
from studio.store import Store

WATCH = 1.0  # seconds between two looks at who started this process, or at the row
PATIENCE = 20.0  # seconds that a process may go on once its job has ended


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


def leave(code: int) -> NoReturn:
    """End this process of a group, its work done and on disk, without taking its libraries down.

    Gloo's threads may outlive what they belong to while an interpreter shuts down, and then abort the process. A
    launcher takes that for a failure and ends the others, the first one perhaps while it saves.
    """
    sys.stdout.flush()
    sys.stderr.flush()
    os._exit(code)


def leave_after(
    settings: Settings, job_id: str, *, patience: float = PATIENCE, leave: Callable[[int], object] = leave
) -> None:
    """Leave `patience` seconds after the job has ended, whatever this process then waits for.

    The first process may stop before it comes to the others, while it reads the pairs, say. By gloo they learn of it
    when the connection breaks; by NCCL they would wait for minutes and hold their GPUs meanwhile.
    """

    def watch() -> None:
        store = Store(settings.database)
        while not store.get_job(job_id).is_final:
            time.sleep(min(WATCH, patience))
        time.sleep(patience)
        leave(0)

    threading.Thread(target=watch, name="row-watch", daemon=True).start()


def _end_with(parent: int) -> None:
    """Kill this process as soon as its parent is another one: a launcher that was killed takes nobody with it."""

    def watch() -> None:
        while os.getppid() == parent:
            time.sleep(WATCH)
        os.kill(os.getpid(), signal.SIGKILL)

    threading.Thread(target=watch, name="parent-watch", daemon=True).start()
