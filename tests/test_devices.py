"""What the device has: nvidia-smi's lines, a container's limit, and what the settings say over it."""

from __future__ import annotations

import os
from dataclasses import replace
from pathlib import Path

import psutil
import pytest

from studio.devices import MIB, Devices, free_memory, matmul_rate, read_gpus, visible
from studio.settings import Settings, SettingsError

TWO = "NVIDIA H100 80GB HBM3, 81559, 80994\nNVIDIA RTX A2000, 12GB, 12282, 11000\nodd, [N/A], [N/A]\n"


def test_gpus_are_read_from_nvidia_smi() -> None:
    gpus = read_gpus(TWO)
    assert gpus == [("NVIDIA H100 80GB HBM3", 80994 * MIB), ("NVIDIA RTX A2000, 12GB", 11000 * MIB)]
    assert visible(gpus, "1") == [gpus[1]]
    assert visible(gpus, None) == visible(gpus, "GPU-8a2c") == gpus


def test_the_fullest_gpu_counts_where_several_train(settings: Settings) -> None:
    settings = replace(settings, device="auto")
    asked = []

    def ask() -> list[tuple[str, float]]:
        asked.append(1)
        return read_gpus(TWO)

    devices = Devices(settings, ask)
    device = devices.now()
    assert (device.kind, device.name, device.free, device.count) == ("cuda", "NVIDIA H100 80GB HBM3", 80994 * MIB, 2)
    devices.now()
    assert len(asked) == 1, "nvidia-smi is not asked at every look"
    assert Devices(replace(settings, processes=2), ask).now().free == 11000 * MIB


def test_the_settings_say_over_what_was_found(settings: Settings) -> None:
    assert Devices(replace(settings, memory=11.5), list).now().free == 11.5e9
    hidden = Devices(replace(settings, device="cuda"), list).now()
    assert (hidden.kind, hidden.free) == ("cuda", None)
    assert Settings.from_environment({"DUO_STUDIO_MEMORY": "11.5"}).memory == 11.5
    assert Settings.from_environment(replace(settings, memory=7.0).environment()).memory == 7.0
    for wrong in ("much", "-1", "nan"):
        with pytest.raises(SettingsError, match="DUO_STUDIO_MEMORY"):
            Settings.from_environment({"DUO_STUDIO_MEMORY": wrong})


def test_what_a_running_job_holds_is_free_for_the_next_one(settings: Settings) -> None:
    devices = Devices(settings, list)
    own = psutil.Process().memory_info().rss
    alone, after = devices.now().free, devices.now([os.getpid(), 2**22 + 1]).free
    assert alone is not None
    assert after is not None
    assert after - alone == pytest.approx(own, rel=0.5)


def test_a_containers_limit_counts(tmp_path: Path) -> None:
    (tmp_path / "memory.max").write_text("3000000000\n")
    (tmp_path / "memory.current").write_text("2500000000\n")
    (tmp_path / "memory.stat").write_text("anon 5\ninactive_file 100000000\n")
    assert free_memory(tmp_path) == pytest.approx(0.6e9)
    (tmp_path / "memory.max").write_text("max\n")
    assert free_memory(tmp_path) > 0.7e9
    assert free_memory(tmp_path / "none") > 0.7e9


def test_the_processors_rate_is_measured() -> None:
    assert matmul_rate() > 1e8
