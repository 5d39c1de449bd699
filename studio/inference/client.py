"""The page's side of the inference worker: starts it, asks for pictures, starts it again after a crash. No torch.

Requests of several threads wait their turn in the worker. A request that nobody reads any more (its generator is
closed) is cancelled there. The worker ends with this process, whose end of the pipe it watches.
"""

from __future__ import annotations

import os
import queue
import secrets
import threading
from collections.abc import Callable, Iterator, Sequence
from contextlib import suppress
from typing import Any

from studio.inference.line import InferenceError, Line, visitor_key
from studio.inference.messages import (
    Cell,
    CutOffRequest,
    Found,
    ModelChoice,
    Progress,
    RenderRequest,
    RenderResult,
    decode,
    encode,
)
from studio.processes import Child, describe_exit, last_lines, start_python
from studio.settings import Settings

__all__ = [
    "Cell",
    "Found",
    "InferenceClient",
    "InferenceError",
    "ModelChoice",
    "Progress",
    "RenderRequest",
    "RenderResult",
]

WORKER = ("-m", "studio.inference.worker")
LOOK_SECONDS = 1.0  # between two looks at the place in the line
LAST_WORDS = ("result", "words", "error")  # kinds of messages that end a request


class InferenceClient:
    """Renders pictures in a warm child process, which starts at the first call. Safe to share by threads."""

    def __init__(self, settings: Settings, *, worker: Sequence[str] = WORKER) -> None:
        self._settings, self._arguments = settings, tuple(worker)
        self._worker: _Worker | None = None
        self._lock = threading.Lock()
        self._line = Line(settings.limits.waiting, settings.limits.own_waiting)

    def render(self, request: RenderRequest) -> Iterator[Progress | RenderResult]:
        """Progress as it comes, and the result last.

        Raises InferenceError where the line is too long or the request cannot be served as a whole, or where the worker
        dies over it; the next
        call starts another worker. What is wrong with one model alone is in the `error` of its cells.
        """
        with self._line.place(visitor_key()) as place:
            worker, message = self._alive()
            request_id, inbox, _ = worker.open()
            try:
                worker.send(encode("render", request_id, request))
                waits = place.words()
                yield Progress(message or waits or "asking for pictures", 0, request.pictures)
                while True:
                    try:
                        kind, body = inbox.get(timeout=LOOK_SECONDS if waits else None)
                    except queue.Empty:
                        if (now := place.words()) != waits:
                            waits = now
                            yield Progress(waits or "asking for pictures", 0, request.pictures)
                        continue
                    waits = ""
                    if kind == "error":
                        raise InferenceError(body)
                    yield body
                    if kind == "result":
                        place.done()
                        return
            finally:
                if worker.forget(request_id):
                    worker.send(encode("cancel", request_id))

    def render_all(self, request: RenderRequest, on_progress: Callable[[Progress], None] | None = None) -> RenderResult:
        """The result alone, for callers that have no page to keep up to date."""
        for event in self.render(request):
            if isinstance(event, RenderResult):
                return event
            if on_progress is not None:
                on_progress(event)
        raise InferenceError("The inference worker gave no result.")

    def cut_off(self, checkpoint: str, prompts: Sequence[str]) -> list[str]:
        """The end of each prompt that the checkpoint's text encoder does not see; "" where it sees all of it.

        Waits for the worker, which may be loading or drawing. Raises InferenceError as `render` does.
        """
        worker, _ = self._alive()
        request_id, inbox, _ = worker.open(picture=False)
        worker.send(encode("cut_off", request_id, CutOffRequest(checkpoint, list(prompts))))
        kind, body = inbox.get()
        if kind == "error":
            raise InferenceError(body)
        return body.words

    def prewarm(self, *checkpoints: str) -> None:
        """Start the worker and have it load these checkpoints; returns at once. Errors show with the first request."""
        worker, _ = self._alive()
        for checkpoint in checkpoints:
            worker.send(encode("prewarm", "", checkpoint))

    def close(self) -> None:
        """End the worker; a request under way raises InferenceError."""
        with self._lock:
            worker, self._worker = self._worker, None
        if worker is not None:
            worker.close()

    def _alive(self) -> tuple[_Worker, str]:
        """The worker, started where none runs, and what its start has to be waited for."""
        with self._lock:
            if self._worker is not None and not self._worker.ended:
                return self._worker, ""
            again = self._worker is not None
            self._worker = _Worker(self._settings, self._arguments)
            return self._worker, f"starting the inference worker{' again' if again else ''}: loading PyTorch"


class _Worker:
    """One child process, and the thread that hands its lines to the requests they belong to."""

    def __init__(self, settings: Settings, arguments: Sequence[str]) -> None:
        self._log = settings.logs / "inference.log"
        self._log.parent.mkdir(parents=True, exist_ok=True)
        self._log.write_bytes(b"")
        self._settings, self._arguments = settings, arguments
        self.process: Child | None = None  # started by the reader, since that can take as long as PyTorch loads
        self._problem = ""  # why it could not be started
        self._theirs, own = zip(os.pipe(), reversed(os.pipe()), strict=True)  # what the worker reads and writes
        self._requests, self._answers = os.fdopen(own[0], "wb"), os.fdopen(own[1], "rb")
        self._inboxes: dict[str, queue.SimpleQueue[tuple[str, Any]]] = {}
        self._drawing: set[str] = set()  # the open requests for pictures
        self._lock = threading.Lock()
        self._writing = threading.Lock()
        self.ended = False
        self._reader = threading.Thread(target=self._run, name="inference-reader", daemon=True)
        self._reader.start()

    def open(self, *, picture: bool = True) -> tuple[str, queue.SimpleQueue[tuple[str, Any]], int]:
        """A new request's id, its inbox, and how many requests for pictures are open besides."""
        request_id, inbox = secrets.token_hex(6), queue.SimpleQueue[tuple[str, Any]]()
        with self._lock:
            self._drawing &= self._inboxes.keys()
            others = len(self._drawing)
            self._inboxes[request_id] = inbox
            if picture:
                self._drawing.add(request_id)
            if self.ended:
                inbox.put(("error", self._epitaph()))
        return request_id, inbox, others

    def forget(self, request_id: str) -> bool:
        """Close a request's inbox; True where the worker may still be busy with it."""
        with self._lock:
            return self._inboxes.pop(request_id, None) is not None and not self.ended

    def send(self, line: bytes) -> None:
        # A worker that has just died breaks the pipe, or it was closed here: the reader tells all inboxes.
        with self._writing, suppress(BrokenPipeError, ValueError):
            self._requests.write(line)
            self._requests.flush()

    def close(self) -> None:
        with self._writing, suppress(BrokenPipeError):
            self._requests.close()
        self._reader.join(timeout=5)
        if self._reader.is_alive() and self.process is not None:
            self.process.kill()
            self._reader.join()

    def _run(self) -> None:
        try:
            with self._log.open("ab") as log:
                stdin, stdout = self._theirs
                self.process = start_python(
                    self._settings, self._arguments, stdin=stdin, stdout=stdout, stderr=log.fileno()
                )
        except OSError as error:
            self._problem = f"did not start: {error}; free memory or disk"
        finally:
            for end in self._theirs:
                os.close(end)
        with self._answers:
            self._read()
        if self.process is not None:
            self.process.wait()
        with self._lock:
            self.ended = True
            for inbox in self._inboxes.values():
                inbox.put(("error", self._epitaph()))

    def _read(self) -> None:
        for line in self._answers:
            kind, request_id, body = decode(line)
            with self._lock:
                inbox = self._inboxes.get(request_id)
                if kind in LAST_WORDS:
                    self._inboxes.pop(request_id, None)
            if inbox is not None:
                inbox.put((kind, body))

    def _epitaph(self) -> str:
        how = self._problem or describe_exit(self.process.returncode if self.process else None)
        lines = last_lines(self._log) or "(it wrote nothing)"
        return f"The inference worker {how}; the next request starts it again. Its last lines:\n{lines}"
