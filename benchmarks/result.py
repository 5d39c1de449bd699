"""How a benchmark tells its result: one JSON object in the last line of what it prints."""

from __future__ import annotations

import json
import os
import platform
from typing import Any


def machine() -> str:
    """What the figures were measured on: cores, system, Python, load."""
    load = os.getloadavg()[0]
    return f"{os.cpu_count()} cores, {platform.machine()}, Python {platform.python_version()}, load {load:.1f}"


def print_result(name: str, ratios: dict[str, float], **figures: Any) -> None:
    """`ratios` are what the bars are set on; `figures` are what they were made of, in the units of their names."""
    rounded = {key: round(value, 4) for key, value in ratios.items()}
    print(json.dumps({"name": name, "machine": machine(), "ratios": rounded, **figures}))
