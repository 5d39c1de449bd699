"""How long trainings of other methods than DUO really take: "methods" in `studio/calibration.json`.

    python -m benchmarks.calibrate_methods

Runs each method that `studio.method_times` counts on the embedded checkpoint, on one thread, and tells how far the
estimate is from the processor's seconds. Nothing is fitted: the numbers are those that `calibrate_memory` found of DUO.
"""

from __future__ import annotations

import argparse
import json
import time
from typing import Any

import torch

from models.loading import load_bundle
from studio.devices import matmul_rate
from studio.estimates import Situation
from studio.method_configs import METHOD_CONFIGS
from studio.method_times import is_counted, method_time
from studio.methods import get_method
from studio.methods.base import TrainingPairs, silent
from studio.shapes import CALIBRATION, table_shape

CASES: list[tuple[str, dict[str, Any]]] = [
    ("esd", {"prompts": ["a person holding a sword"], "steps": 60}),
    ("esd", {"prompts": ["a person holding a sword"], "steps": 20, "batch_size": 32, "trajectories": 64}),
    ("spm", {"concepts": ["sword"], "steps": 60}),
    ("concept-ablation", {"prompts": ["a person holding a sword"], "steps": 60, "pictures": 32}),
    ("concept-ablation", {"prompts": ["a sword"], "steps": 40, "pictures": 64, "prior_weight": 1.0}),
]


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--keep", action="store_true", help="write what was measured into the table")
    options = parser.parse_args()
    torch.set_num_threads(1)
    rows = []
    for method, values in CASES:
        row = measured(method, values)
        estimate = estimated(row)
        rows.append(row)
        print(json.dumps({**row, "estimate": round(estimate, 2), "off": round(estimate / row["seconds"] - 1, 3)}))
    if options.keep:
        table = json.loads(CALIBRATION.read_text(encoding="utf-8"))
        CALIBRATION.write_text(json.dumps({**table, "methods": rows}, indent=1) + "\n", encoding="utf-8")


def measured(method: str, values: dict[str, Any]) -> dict[str, Any]:
    """Seconds of the processor of one training, and FLOP/s of a plain matrix product before and after it."""
    bundle = load_bundle("toybox", device="cpu", dtype="float32")
    config = METHOD_CONFIGS[method].model_validate({**values, "sample_every": 0})
    none = torch.zeros(0, *bundle.latent_shape)
    rates = [matmul_rate()]
    begun = time.process_time()
    get_method(method).fit(bundle, TrainingPairs(none, none), config, silent)
    seconds = time.process_time() - begun
    rates.append(matmul_rate())
    return {"method": method, "shape": "toybox", "values": values, "seconds": round(seconds, 2),
            "rate": round(sum(rates) / 2)}  # fmt: skip


def estimated(row: dict[str, Any]) -> float:
    config = METHOD_CONFIGS[row["method"]].model_validate({**row["values"], "sample_every": 0})
    assert is_counted(config)
    found = method_time(config, Situation(table_shape(row["shape"]), "cpu", "float32"), (), row["rate"])
    assert found.seconds is not None
    return found.seconds


if __name__ == "__main__":
    main()
