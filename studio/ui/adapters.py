"""Trained adapters as downloads.

    /studio/adapters/<checkpoint>.safetensors

A checkpoint is asked for by its id, and only a file in the folder of trained models is given out.
"""

from __future__ import annotations

from pathlib import Path

from starlette.requests import Request
from starlette.responses import FileResponse, PlainTextResponse, Response
from starlette.routing import Route

from studio.settings import Settings
from studio.store import NotFoundError, Store


def adapter_url(checkpoint_id: str) -> str:
    """Relative, so that it also works behind a proxy that adds a path."""
    return f"studio/adapters/{checkpoint_id}.safetensors"


def adapter_routes(settings: Settings, store: Store) -> list[Route]:
    def adapter(request: Request) -> Response:
        try:
            checkpoint = store.get_checkpoint(request.path_params["checkpoint"])
        except NotFoundError:
            return PlainTextResponse("There is no such trained model.", status_code=404)
        path = Path(checkpoint.path).resolve()
        if not path.is_relative_to(settings.checkpoints.resolve()) or path.suffix != ".safetensors":
            return PlainTextResponse("This model's file lies outside the studio's data folder.", status_code=404)
        if not path.is_file():
            return PlainTextResponse(f"The file of {checkpoint.name} is missing ({path.name}).", status_code=404)
        return FileResponse(path, media_type="application/octet-stream", headers={"X-Content-Type-Options": "nosniff"})

    return [Route("/studio/adapters/{checkpoint}.safetensors", adapter, methods=["GET"])]
