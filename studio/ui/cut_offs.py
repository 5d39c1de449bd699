"""Which words of a project's prompts its text encoder does not see, asked in the background and kept.

The answer needs the checkpoint, which the inference worker may still be loading: nobody on the page waits for it. What
is known shows with the next tick.
"""

from __future__ import annotations

import threading
from collections.abc import Iterable

from studio.inference.client import InferenceClient, InferenceError

KEEP = 100_000  # prompts; then all are forgotten and asked again


class CutOffs:
    """Answers so far, by checkpoint and prompt. Safe to share by threads."""

    def __init__(self, client: InferenceClient) -> None:
        self._client = client
        self._lock = threading.Lock()
        self._words: dict[tuple[str, str], str | None] = {}  # None: asked, no answer yet
        self._problems: dict[str, str] = {}
        self.version = 0  # another one whenever more is known

    def known(self, checkpoint: str, prompts: Iterable[str]) -> dict[str, str]:
        """The end that is cut off, of the prompts where that is known and not nothing."""
        with self._lock:
            found = {prompt: self._words.get((checkpoint, prompt)) for prompt in prompts}
        return {prompt: words for prompt, words in found.items() if words}

    def problem(self, checkpoint: str) -> str:
        """Why the checkpoint's tokenizer could not be asked; "" while all is well."""
        return self._problems.get(checkpoint, "")

    def ask(self, checkpoint: str, prompts: Iterable[str], *, again: bool = False) -> None:
        """Have what is not known asked for; returns at once. `again` also asks what could not be answered before."""
        with self._lock:
            if len(self._words) > KEEP:
                self._words.clear()
            if checkpoint in self._problems and not again:
                return
            missing = [prompt for prompt in dict.fromkeys(prompts) if (checkpoint, prompt) not in self._words]
            self._words |= {(checkpoint, prompt): None for prompt in missing}
        if missing:
            asking = threading.Thread(target=self._ask, args=(checkpoint, missing), name="cut-offs", daemon=True)
            asking.start()

    def _ask(self, checkpoint: str, prompts: list[str]) -> None:
        problem = ""
        answers: dict[tuple[str, str], str] = {}
        try:
            words = self._client.cut_off(checkpoint, prompts)
            answers = {(checkpoint, prompt): cut for prompt, cut in zip(prompts, words, strict=True)}
        except InferenceError as error:
            problem = str(error)
        with self._lock:
            self._words |= answers
            if problem:
                self._problems[checkpoint] = problem
                for prompt in prompts:
                    self._words.pop((checkpoint, prompt), None)
            else:
                self._problems.pop(checkpoint, None)
            self.version += 1
