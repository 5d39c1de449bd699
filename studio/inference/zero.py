"""Compare on ZeroGPU, where the GPU is lent to one call at a time and no child process can have it: pictures are drawn
within the page's own process, under `spaces.GPU`. The same interface as the client of the warm worker.

Importing this loads no torch; drawing does. What a call loads on the GPU is gone when the call ends, so each comparison
loads its checkpoint anew. Training is impossible there: see docs/hosting.md.
"""

from __future__ import annotations

import os
import queue
import threading
from collections.abc import Callable, Iterator, Sequence
from importlib.util import find_spec
from typing import Any

from studio.inference.client import InferenceClient
from studio.inference.line import InferenceError, Line, visitor_key
from studio.inference.messages import Progress, RenderRequest, RenderResult
from studio.settings import Settings

SECONDS_A_PICTURE, SECONDS_TO_LOAD, MOST_SECONDS = 4, 45, 300


def client_of(settings: Settings) -> InferenceClient:
    """The warm worker's client, or on ZeroGPU the one that draws here."""
    zero = os.environ.get("SPACES_ZERO_GPU", "").lower() in ("1", "true", "t")
    if not zero or find_spec("spaces") is None:
        return InferenceClient(settings)
    import spaces  # before torch

    return ZeroClient(settings, spaces.GPU)


def seconds_for(settings: Settings, request: RenderRequest) -> int:
    """How long the GPU is asked for: the quota of whoever draws pays for it."""
    return min(MOST_SECONDS, SECONDS_TO_LOAD + SECONDS_A_PICTURE * request.pictures)


def draw(settings: Settings, request: RenderRequest) -> Iterator[Progress | RenderResult | str]:
    """Progress as it comes and the result last, or the words of what went wrong."""
    from studio.inference.renderer import Renderer

    told: queue.SimpleQueue[Any] = queue.SimpleQueue()

    def work() -> None:
        try:
            told.put(Renderer(settings).render(request, told.put))
        except (ValueError, OSError) as error:
            told.put(str(error))
        except Exception as error:  # as the worker's death would be told
            told.put(f"Drawing failed: {type(error).__name__}: {error}")

    threading.Thread(target=work, name="drawing", daemon=True).start()
    while True:
        event = told.get()
        yield event
        if not isinstance(event, Progress):
            return


class ZeroClient(InferenceClient):
    """Draws in this process; one comparison at a time."""

    def __init__(self, settings: Settings, gpu: Callable[..., Any]) -> None:
        """`gpu` is `spaces.GPU`. It wants to see what it lends the GPU to before the page opens."""
        self._settings = settings
        self._line = Line(settings.limits.waiting, settings.limits.own_waiting)
        self._turn = threading.Lock()
        self._draw = gpu(duration=seconds_for)(draw)

    def render(self, request: RenderRequest) -> Iterator[Progress | RenderResult]:
        with self._line.place(visitor_key()) as place:
            waits = place.words()
            yield Progress(waits or "asking for a GPU", 0, request.pictures)
            while not self._turn.acquire(timeout=1.0):
                if (now := place.words()) != waits:
                    waits = now
                    yield Progress(waits or "asking for a GPU", 0, request.pictures)
            try:
                for event in self._draw(self._settings, request):
                    if isinstance(event, str):
                        raise InferenceError(event)
                    yield event
                place.done()
            finally:
                self._turn.release()

    def cut_off(self, checkpoint: str, prompts: Sequence[str]) -> list[str]:
        """Asked of the text encoder on the CPU."""
        from studio.inference.renderer import Renderer

        try:
            return Renderer(self._settings).cut_off(checkpoint, prompts)
        except (ValueError, OSError) as error:
            raise InferenceError(str(error)) from error

    def prewarm(self, *checkpoints: str) -> None:
        """There is nothing to keep warm."""

    def close(self) -> None:
        """Nothing runs beside the page."""
