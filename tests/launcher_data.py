"""What tests of launchers share: results as a machine sends them."""

from __future__ import annotations

import hashlib
import json
from collections.abc import Callable
from typing import Any

import numpy as np
from safetensors.numpy import save

from studio.launchers.events import event
from tests.hub_server import Repository

CHECKPOINT = "0123456789ab"


def put_results(
    repository: Repository,
    job_id: str,
    say: Callable[[str], None],
    *,
    adapter: bytes | None = None,
    result: dict[str, Any] | None = None,
    **changes: Any,
) -> None:
    """One checkpoint, and the word that it is there; `changes` are of result.json."""
    data = adapter if adapter is not None else save({"unet.a.lora_A.weight": np.ones((1, 2), np.float32)})
    sha256 = hashlib.sha256(data).hexdigest()
    row = {"id": CHECKPOINT, "stage": "", "method": "duo", "name": "There", "sha256": sha256, "kind": "lora",
           "config": {}, "train_seconds": 1.5}  # fmt: skip
    results = {"checkpoint_id": CHECKPOINT, "sha256": sha256, **(result or {})}
    config = {"method": "duo", "name": "There", "config": {}}
    told = {"job": job_id, "result": results, "config": config, "checkpoints": [row], "samples": []}
    packed = json.dumps({**told, **changes}).encode()
    repository.files["results/result.json"] = packed
    repository.files[f"results/adapters/{CHECKPOINT}.safetensors"] = data
    say(event(state="done", results=hashlib.sha256(packed).hexdigest()))
