"""The warm inference worker, `python -m studio.inference.worker`: requests on stdin, progress and results on stdout.

It ends when its stdin does, that is when the process that started it closes it or dies.
"""

from __future__ import annotations

import os
import queue
import sys
import threading
from contextlib import suppress
from typing import Any, BinaryIO

import torch

from models.specs import LoadError
from studio.inference.messages import CutOff, CutOffRequest, Progress, RenderRequest, decode, encode
from studio.inference.renderer import Renderer
from studio.processes import step_back
from studio.settings import Settings


class Cancelled(Exception):  # noqa: N818 — no error
    """Nobody waits for this request any more."""


class Service:
    """Takes requests from stdin in a thread of its own, and serves them one by one."""

    def __init__(self, settings: Settings, requests: BinaryIO, answers: BinaryIO) -> None:
        self._renderer = Renderer(settings)
        self._requests, self._answers = requests, answers
        self._waiting: queue.SimpleQueue[tuple[str, str, Any]] = queue.SimpleQueue()
        self._cancelled: set[str] = set()

    def serve(self) -> None:
        """For ever: the listening thread ends the process."""
        threading.Thread(target=self._listen, name="listener", daemon=True).start()
        while True:
            kind, request_id, body = self._waiting.get()
            if kind == "prewarm":
                self._prewarm(body)
            elif kind == "cut_off":
                self._cut_off(request_id, body)
            else:
                self._render(request_id, body)

    def _listen(self) -> None:
        for line in self._requests:
            kind, request_id, body = decode(line)
            if kind == "cancel":
                self._cancelled.add(request_id)
            else:
                self._waiting.put((kind, request_id, body))
        os._exit(0)  # nobody is left to answer, so even a picture half done ends here

    def _prewarm(self, checkpoint: str) -> None:
        try:
            self._renderer.load(checkpoint)
        except LoadError as error:
            print(error, file=sys.stderr, flush=True)  # the first request will say it to the user

    def _cut_off(self, request_id: str, request: CutOffRequest) -> None:
        try:
            words = self._renderer.cut_off(request.checkpoint, request.prompts)
        except (ValueError, OSError) as error:
            self._answer("error", request_id, str(error))
        else:
            self._answer("words", request_id, CutOff(words))

    def _render(self, request_id: str, request: RenderRequest) -> None:
        def tell(progress: Progress) -> None:
            if request_id in self._cancelled:
                raise Cancelled
            self._answer("progress", request_id, progress)

        try:
            with suppress(Cancelled):
                self._answer("result", request_id, self._renderer.render(request, tell))
        except (ValueError, OSError) as error:
            self._answer("error", request_id, str(error))
        self._cancelled.discard(request_id)

    def _answer(self, kind: str, request_id: str, body: Any) -> None:
        self._answers.write(encode(kind, request_id, body))
        self._answers.flush()


def main() -> None:
    settings = Settings.from_environment()
    step_back(5)  # the page answers first
    if settings.threads:
        torch.set_num_threads(settings.threads)
    answers = os.fdopen(os.dup(1), "wb")
    os.dup2(2, 1)  # what a library prints must not mix with the answers
    Service(settings, sys.stdin.buffer, answers).serve()


if __name__ == "__main__":
    main()
