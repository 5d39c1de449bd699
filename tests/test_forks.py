"""Workers that are copies of one process: how they are known, how their end is told, when they are started anew."""

from __future__ import annotations

import os
import signal
import subprocess
import time
from collections.abc import Callable, Iterator
from dataclasses import replace
from pathlib import Path

import psutil
import pytest

from studio.forks import ADDRESS, GONE, Forked, ForkServer, possible, same_surroundings
from studio.processes import (
    Spawned,
    describe_exit,
    is_alive,
    signal_worker,
    start_fork_server,
    start_python,
)
from studio.settings import Settings

linux = pytest.mark.skipif(not possible(), reason="workers are copies only on Linux without an accelerator")
Start = Callable[..., tuple[Forked | Spawned, int]]


@pytest.fixture
def start(settings: Settings, fork_server: ForkServer, tmp_path: Path) -> Iterator[Start]:
    """Starts an inference worker, which ends when its stdin does; returns it and the pipe's end."""
    ends, children = [], []

    def started(*words: str) -> tuple[Forked | Spawned, int]:
        read, write = os.pipe()
        with (tmp_path / "output").open("ab") as output:
            child = start_python(
                settings, ["-m", "studio.inference.worker", *words], stdin=read, stdout=output.fileno(),
                stderr=output.fileno(),
            )  # fmt: skip
        os.close(read)
        ends.append(write)
        children.append(child)
        return child, write

    yield started
    for end in ends:
        os.close(end)
    for child in children:
        child.kill()


def test_a_machine_with_an_accelerator_has_none(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("sys.platform", "linux")
    assert possible(tmp_path)
    (tmp_path / "dev").mkdir()
    (tmp_path / "dev" / "nvidiactl").touch()
    assert not possible(tmp_path)
    monkeypatch.setattr("sys.platform", "darwin")
    assert not possible(tmp_path / "elsewhere")


def test_what_a_library_may_have_read_must_be_the_same() -> None:
    own = {"HOME": "/a", "DUO_STUDIO_DATA": "/b", "PWD": "/c"}
    assert same_surroundings(own, {"HOME": "/a", "DUO_STUDIO_DATA": "/x"})
    assert not same_surroundings(own, {**own, "HF_HOME": "/x"})
    assert not same_surroundings(own, {"DUO_STUDIO_DATA": "/b"})


@linux
def test_none_is_started_where_it_is_turned_off_or_there_is_one(
    settings: Settings, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.delenv(ADDRESS, raising=False)
    assert start_fork_server(replace(settings, fork=False)) is None
    monkeypatch.setenv(ADDRESS, "/elsewhere")
    assert start_fork_server(settings) is None


@linux
def test_a_server_that_is_not_there_is_done_without(
    settings: Settings, monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    monkeypatch.setenv(ADDRESS, str(tmp_path / "nobody"))
    with (tmp_path / "output").open("wb") as output:
        child = start_python(settings, ["-c", "exit(3)"], stdout=output.fileno(), stderr=output.fileno())
    assert isinstance(child, Spawned)
    assert child.wait(timeout=60) == 3


@linux
@pytest.mark.slow
def test_a_copy_is_known_like_any_worker(start: Start, fork_server: ForkServer) -> None:
    """Its session, command line and folder are its own, and its end is that of its stdin, whoever was forked since."""
    worker, end = start("the-word")
    other, _ = start()
    assert isinstance(worker, Forked)
    process = psutil.Process(worker.pid)
    assert process.ppid() == fork_server.pid
    assert os.getsid(worker.pid) == worker.pid
    assert is_alive(worker.pid, worker.started)
    deadline = time.monotonic() + 60
    while "the-word" not in process.cmdline():
        assert time.monotonic() < deadline
        time.sleep(0.01)
    assert process.cwd() == str(Path.cwd())
    assert worker.poll() is None
    with pytest.raises(subprocess.TimeoutExpired):
        worker.wait(timeout=0.05)
    with open(os.devnull, "wb") as nothing:  # noqa: PTH123
        os.dup2(nothing.fileno(), end)  # shuts the only end that anybody holds
    assert worker.wait(timeout=60) == 0
    assert not is_alive(worker.pid, worker.started)
    assert other.poll() is None


@linux
@pytest.mark.slow
def test_a_kill_and_a_failure_are_told(start: Start, settings: Settings, tmp_path: Path) -> None:
    worker, _ = start("the-word")
    while not signal_worker(worker.pid, worker.started, "the-word", signal.SIGKILL):
        assert worker.poll() is None
        time.sleep(0.01)
    assert describe_exit(worker.wait(timeout=60)).startswith("was killed by SIGKILL")
    with (tmp_path / "log").open("wb") as log:
        failed = start_python(settings, ["-m", "studio.workflow", "nothing"], stdout=log.fileno(), stderr=log.fileno())
    assert isinstance(failed, Forked)
    assert failed.wait(timeout=60) == 1
    assert "nothing" in (tmp_path / "log").read_text()


@linux
@pytest.mark.slow
def test_another_environment_is_loaded_anew(
    start: Start, settings: Settings, monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    monkeypatch.setenv("HF_HOME", str(tmp_path))
    worker, _ = start()
    assert isinstance(worker, Spawned)


@linux
@pytest.mark.slow
def test_workers_outlive_the_server_and_others_do_without(
    start: Start, settings: Settings, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.delenv(ADDRESS)
    server = start_fork_server(settings)
    assert server is not None
    worker, _ = start()
    assert isinstance(worker, Forked)
    os.kill(server.pid, signal.SIGKILL)
    with pytest.raises(subprocess.TimeoutExpired):
        worker.wait(timeout=0.2)
    later, _ = start()
    assert isinstance(later, Spawned)
    worker.kill()
    assert worker.wait(timeout=60) == GONE
    assert describe_exit(GONE) == "is gone"
    server.close()
    assert ADDRESS not in os.environ
    assert not server.address.parent.exists()
