"""What every child process is started with."""

from __future__ import annotations

import json
import subprocess

import pytest

from studio.processes import start_python
from studio.settings import Settings

TELL = "import json, os; print(json.dumps(dict(os.environ)))"


def child_environment(settings: Settings) -> dict[str, str]:
    child = start_python(settings, ["-c", TELL], stdout=subprocess.PIPE)
    return json.loads(child.communicate(timeout=60)[0])


def test_a_child_reads_the_same_settings(settings: Settings) -> None:
    assert Settings.from_environment(child_environment(settings)) == settings


def test_threads_of_a_child_sleep_while_they_wait(settings: Settings, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.delenv("OMP_WAIT_POLICY", raising=False)
    assert child_environment(settings)["OMP_WAIT_POLICY"] == "PASSIVE"
    monkeypatch.setenv("OMP_WAIT_POLICY", "ACTIVE")
    assert child_environment(settings)["OMP_WAIT_POLICY"] == "ACTIVE"
