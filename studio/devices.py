"""What the device has: its name, its memory and how much of it is free. Torch-free, and quick enough for a page.

A GPU is asked through `nvidia-smi`; other systems' GPUs share the machine's memory or are not known.
"""

from __future__ import annotations

import os
import shutil
import subprocess
import threading
import time
from collections.abc import Callable, Iterable
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import psutil
from threadpoolctl import threadpool_limits

from studio.settings import Settings

KEPT = 5.0  # seconds that an answer of nvidia-smi is good for
PATIENCE = 3.0  # seconds that it may take
CGROUP = Path("/sys/fs/cgroup")
_QUERY = ("--query-gpu=name,memory.total,memory.free", "--format=csv,noheader,nounits")
MIB = 1024**2


@dataclass(frozen=True)
class Device:
    """Where trainings run. Memory is in bytes; `free` is None where nobody knows it."""

    kind: str  # "cpu" | "cuda" | "mps"
    name: str
    free: float | None
    count: int = 1  # such devices in this machine


class Devices:
    """The device that the settings name, looked at afresh each time, but no more often than every few seconds."""

    def __init__(self, settings: Settings, ask: Callable[[], list[tuple[str, float]]] | None = None) -> None:
        """`ask` gives (name, free bytes) of each NVIDIA GPU."""
        self.settings, self._ask = settings, ask or nvidia_gpus
        self._lock = threading.Lock()
        self._gpus: tuple[float, list[tuple[str, float]]] | None = None

    def now(self, running: Iterable[int] = ()) -> Device:
        """The device, with what the processes `running` hold counted as free: a queued job starts when they have ended.

        On a GPU that is not known, and its free memory is what it is now.
        """
        settings = self.settings
        gpus = [] if settings.device in ("cpu", "mps") else self._asked()
        if gpus:
            name = gpus[0][0]
            free: float | None = min(free for _, free in gpus) if settings.processes > 1 else gpus[0][1]
            device = Device("cuda", name, free, len(gpus))
        elif settings.device == "cuda":
            device = Device("cuda", "a GPU that nvidia-smi does not show", None)
        else:
            kind = "mps" if settings.device == "mps" else "cpu"
            device = Device(kind, f"{kind.upper()}, {os.cpu_count()} cores", free_memory() + sum(map(_held, running)))
        if settings.memory:
            return Device(device.kind, device.name, settings.memory * 1e9, device.count)
        return device

    def _asked(self) -> list[tuple[str, float]]:
        with self._lock:
            if self._gpus is None or time.monotonic() - self._gpus[0] > KEPT:
                self._gpus = (time.monotonic(), self._ask())
            return self._gpus[1]


def nvidia_gpus() -> list[tuple[str, float]]:
    """Name and free bytes of each NVIDIA GPU that a process started here may use; none where there is no driver."""
    if shutil.which("nvidia-smi") is None or os.environ.get("CUDA_VISIBLE_DEVICES") in ("", "-1"):
        return []
    try:
        done = subprocess.run(
            ["nvidia-smi", *_QUERY],
            capture_output=True,
            text=True,
            timeout=PATIENCE,
            check=True,
            stdin=subprocess.DEVNULL,
        )
    except (OSError, subprocess.SubprocessError):
        return []
    return visible(read_gpus(done.stdout), os.environ.get("CUDA_VISIBLE_DEVICES"))


def read_gpus(text: str) -> list[tuple[str, float]]:
    """(name, free bytes) of the lines "name, total MiB, free MiB"; a GPU that tells no memory is left out."""
    found: list[tuple[str, float]] = []
    for line in text.splitlines():
        name, _, memory = line.rpartition(", ")
        name, _, _ = name.rpartition(", ")
        if name and memory.strip().isdigit():
            found.append((name.strip(), int(memory) * MIB))
    return found


def visible(gpus: list[tuple[str, float]], chosen: str | None) -> list[tuple[str, float]]:
    """Those that CUDA_VISIBLE_DEVICES names by number; all of them where it is not set or names them otherwise."""
    numbers = [part.strip() for part in chosen.split(",")] if chosen else []
    if not numbers or not all(number.isdigit() for number in numbers):
        return gpus
    return [gpus[int(number)] for number in numbers if int(number) < len(gpus)]


def free_memory(cgroup: Path = CGROUP) -> float:
    """Bytes of the machine's memory that can be had, within the limit of a container."""
    free = float(psutil.virtual_memory().available)
    try:
        limit, used = ((cgroup / name).read_text().strip() for name in ("memory.max", "memory.current"))
        cache = dict(line.split() for line in (cgroup / "memory.stat").read_text().splitlines())
        if limit != "max":
            return min(free, max(0.0, float(limit) - float(used) + float(cache.get("inactive_file", 0))))
    except (OSError, ValueError):
        pass
    return free


def _held(pid: int) -> float:
    """Bytes that a process and its children hold in the machine's memory."""
    try:
        process = psutil.Process(pid)
        return float(sum(one.memory_info().rss for one in (process, *process.children(recursive=True))))
    except psutil.Error:
        return 0.0


def matmul_rate() -> float:
    """FLOP/s of a plain float32 matrix product on one core of this machine, whatever else runs; takes 0.1 s."""
    side = 768
    matrix = np.ones((side, side), dtype=np.float32)
    with threadpool_limits(1):
        matrix @ matrix
        begun, products = time.thread_time(), 0
        while products < 3 or time.thread_time() - begun < 0.1:
            matrix @ matrix
            products += 1
        return float(2 * side**3 * products / (time.thread_time() - begun))
