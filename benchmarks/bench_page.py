"""How long the page takes to start: `python -m benchmarks.bench_page`. Prints JSON.

Starts app.py RUNS times and waits for its first answer. The first start after an installation is slower, since Python
compiles what it imports: it is reported apart. Processor time does not depend on what else the machine does.
"""

from __future__ import annotations

import json
import os
import platform
import statistics
import tempfile
from pathlib import Path

import psutil

from studio.settings import Settings
from tests.browser.running import running_studio

RUNS = 4


def main() -> None:
    seconds: list[float] = []
    processor: list[float] = []
    with tempfile.TemporaryDirectory() as folder:
        for _ in range(RUNS):
            with running_studio(Settings(Path(folder))) as studio:
                used = psutil.Process(studio.process.pid).cpu_times()
                seconds.append(studio.seconds)
                processor.append(used.user + used.system)
    print(
        json.dumps(
            {
                "benchmark": "page",
                "first_start_seconds": round(seconds[0], 2),
                "warm_start_seconds": round(statistics.median(seconds[1:]), 2),
                "warm_processor_seconds": round(statistics.median(processor[1:]), 2),
                "runs": RUNS,
                "python": platform.python_version(),
                "cores": os.cpu_count(),
                "load": [round(load, 1) for load in os.getloadavg()],
            }
        )
    )


if __name__ == "__main__":
    main()
