"""Downloads a published network that a detector or a measure needs, as a job with progress."""

from __future__ import annotations

from typing import Any

from studio.backbones import fetch, get_backbone
from studio.configs import FetchConfig
from studio.workflow.context import JobContext


def fetch_backbone(context: JobContext) -> dict[str, Any]:
    """Raises BackboneError where it cannot be had; nothing half remains."""
    backbone = get_backbone(FetchConfig.model_validate(context.config).backbone)

    def progress(done: int, total: int) -> None:
        whole = total or backbone.megabytes * 1_000_000
        shown = f"{backbone.title}: {done / 1e6:.0f} of {whole / 1e6:.0f} MB"
        context.report(min(done, whole), whole, shown)

    path = fetch(backbone.key, progress)
    context.report(1, 1, f"{backbone.title} is here")
    return {"path": str(path)}
