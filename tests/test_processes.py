"""What every child process is started with, and how it is known again."""

from __future__ import annotations

import json
import os
import subprocess
import sys
import time
from pathlib import Path

import psutil
import pytest

from studio.processes import is_alive, start_python, start_time
from studio.settings import Settings

TELL = "import json, os; print(json.dumps(dict(os.environ)))"


def child_environment(settings: Settings) -> dict[str, str]:
    said = settings.data / "said"
    with said.open("wb") as output:
        child = start_python(settings, ["-c", TELL], stdout=output.fileno(), stderr=output.fileno())
    assert child.wait(timeout=60) == 0
    return json.loads(said.read_text())


def test_a_child_reads_the_same_settings(settings: Settings) -> None:
    assert Settings.from_environment(child_environment(settings)) == settings


def test_threads_of_a_child_sleep_while_they_wait(settings: Settings, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.delenv("OMP_WAIT_POLICY", raising=False)
    assert child_environment(settings)["OMP_WAIT_POLICY"] == "PASSIVE"
    monkeypatch.setenv("OMP_WAIT_POLICY", "ACTIVE")
    assert child_environment(settings)["OMP_WAIT_POLICY"] == "ACTIVE"


linux = pytest.mark.skipif(not sys.platform.startswith("linux"), reason="starts since boot are Linux's")


@linux
@pytest.mark.parametrize("step", [-7200.0, 3.0, 7200.0])
def test_a_process_lives_on_when_the_clock_is_set(monkeypatch: pytest.MonkeyPatch, step: float) -> None:
    started, boot, utc = start_time(os.getpid()), psutil.boot_time(), psutil.Process().create_time()
    monkeypatch.setattr("psutil._pslinux.boot_time", lambda: boot + step)  # what a step of the clock does to psutil
    assert psutil.Process().create_time() - utc == pytest.approx(step, abs=0.1)
    assert is_alive(os.getpid(), started)
    assert start_time(os.getpid()) == started


def test_a_process_is_known_by_the_start_that_earlier_versions_kept() -> None:
    started = psutil.Process().create_time()
    assert is_alive(os.getpid(), started)
    assert not is_alive(os.getpid(), started - 5)


@linux
def test_the_same_id_and_second_after_a_restart_is_another_process(
    monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    """Under another boot id, which decides alone: the process's own file says the same."""
    started, own = start_time(os.getpid()), tmp_path / str(os.getpid())
    (tmp_path / "sys/kernel/random").mkdir(parents=True)
    own.mkdir()
    (own / "stat").write_text(Path(f"/proc/{os.getpid()}/stat").read_text().replace("(", "(a ) b ("))
    boot_id = Path("/proc/sys/kernel/random/boot_id").read_text()
    monkeypatch.setattr("studio.processes.PROC", tmp_path)
    for text, alive in ((boot_id, True), ("fffff" if boot_id[:5] != "fffff" else "00000", False)):
        (tmp_path / "sys/kernel/random/boot_id").write_text(text)
        assert is_alive(os.getpid(), started) is alive


def test_a_process_that_is_gone_is_not_alive() -> None:
    child = subprocess.Popen([sys.executable, "-c", ""])
    started = start_time(child.pid)
    while psutil.Process(child.pid).status() != psutil.STATUS_ZOMBIE:
        time.sleep(0.01)
    assert not is_alive(child.pid, started)
    child.wait()
    assert not is_alive(child.pid, started)
    with pytest.raises(psutil.NoSuchProcess):
        start_time(child.pid)


@pytest.mark.skipif(not Path("/proc/self/autogroup").exists(), reason="this kernel does not weigh sessions")
def test_a_worker_s_whole_session_steps_back(settings: Settings) -> None:
    said = settings.data / "said"
    code = "from studio.processes import step_back; step_back(7); print(open('/proc/self/autogroup').read())"
    with said.open("wb") as output:
        child = start_python(settings, ["-c", code], stdout=output.fileno(), stderr=output.fileno())
    assert child.wait(timeout=60) == 0
    niceness = os.getpriority(os.PRIO_PROCESS, 0) + 7
    assert said.read_text().split()[-1] == str(min(niceness, 19))
    before = Path("/proc/self/autogroup").read_text()
    subprocess.run([sys.executable, "-c", "from studio.processes import step_back; step_back(1)"], check=True)
    assert Path("/proc/self/autogroup").read_text() == before, "who leads no session leaves it as it is"
