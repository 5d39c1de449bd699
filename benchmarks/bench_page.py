"""How long the page takes to start, and its polling to answer: `python benchmarks/bench_page.py`. Prints JSON.

Starts app.py RUNS times on an empty data folder and waits for its first answer. The first start after an installation
is slower, since Python compiles what it imports: it is reported apart.
"""

from __future__ import annotations

import json
import os
import platform
import statistics
import sys
import tempfile
from pathlib import Path

sys.path.insert(0, str(Path(__file__).resolve().parents[1]))

from studio.settings import Settings
from tests.browser.running import running_studio

RUNS = 4


def main() -> None:
    seconds = []
    with tempfile.TemporaryDirectory() as folder:
        for _ in range(RUNS):
            with running_studio(Settings(Path(folder))) as studio:
                seconds.append(studio.seconds)
    print(
        json.dumps(
            {
                "benchmark": "page",
                "first_start_seconds": round(seconds[0], 2),
                "warm_start_seconds": round(statistics.median(seconds[1:]), 2),
                "runs": RUNS,
                "python": platform.python_version(),
                "cores": os.cpu_count(),
                "load": [round(load, 1) for load in os.getloadavg()],
            }
        )
    )


if __name__ == "__main__":
    main()
