"""A project's prompt pairs: added, changed and removed, as long as no picture hangs on them. Part of the store."""

from __future__ import annotations

from collections.abc import Iterable, Iterator
from contextlib import contextmanager
from typing import Any

from studio.database import RecordFile, StoreError
from studio.records import PromptPair

SETTLED = ("unsafe", "safe", "seed")  # what the pictures were made of


class PromptRows(RecordFile):
    """The part of the store that the Prompts tab writes."""

    @contextmanager
    def transaction(self) -> Iterator[None]:
        """Several changes as one. A change that is refused within it takes back itself alone, if it is caught."""
        with self._writing():
            yield

    def add_prompt_pairs(self, pairs: Iterable[PromptPair]) -> list[PromptPair]:
        """All of them or, on an error, none."""
        with self._writing():
            return [self._insert(pair) for pair in pairs]

    def list_prompt_pairs(self, project_id: str, *, wordless: bool = False) -> list[PromptPair]:
        """In the order they were written; with `wordless` also the row that pairs brought without prompts hang on."""
        return self._select(PromptPair, "project_id = ? AND (? OR unsafe != '' OR safe != '')", project_id, wordless)

    def update_prompt_pair(self, pair_id: str, **changes: Any) -> PromptPair:
        """Change the named fields.

        Raises StoreError where pictures were made, or are just being made, of the words or the seed to be changed.
        """
        with self._writing():
            pair = self._get(PromptPair, pair_id)
            changes = {name: value for name, value in changes.items() if value != getattr(pair, name, None)}
            if any(name in SETTLED for name in changes):
                if made := self._made(pair_id):
                    raise StoreError(
                        f"{_pictures(made)} made of this row's words and seed, which therefore stay. Write the new "
                        "ones into another row, and set the count of this one to 0 to make no more of it."
                    )
                self._refuse_while_made(pair.project_id)
            return self._update(PromptPair, pair_id, changes)

    def remove_prompt_pair(self, pair_id: str) -> None:
        """Raises StoreError where pictures were made of it, or are just being made. What is not there is no error."""
        with self._writing() as db:
            if made := self._made(pair_id):
                raise StoreError(
                    f"{_pictures(made)} made of this row, which therefore stays. Set its count to 0 to make no more."
                )
            for pair in self._select(PromptPair, "id = ?", pair_id):
                self._refuse_while_made(pair.project_id)
            db.execute("DELETE FROM prompt_pairs WHERE id = ?", (pair_id,))

    def made_of_prompts(self, project_id: str) -> dict[str, int]:
        """How many image pairs, failed ones included, were made of each prompt pair; without those that have none."""
        sql = "SELECT prompt_pair_id, count(*) AS made FROM image_pairs WHERE project_id = ? GROUP BY prompt_pair_id"
        return {row["prompt_pair_id"]: row["made"] for row in self._db.query(sql, (project_id,))}

    def accepted_groups(self, project_id: str) -> dict[str, int]:
        """How many accepted pairs each group has, in the order of the prompts; "" are those without a group."""
        sql = (
            'SELECT prompt_pairs."group" AS name, count(*) AS accepted FROM prompt_pairs '
            "JOIN image_pairs ON image_pairs.prompt_pair_id = prompt_pairs.id WHERE prompt_pairs.project_id = ? "
            "AND state = 'ready' AND decision = 'accept' AND stopped = 0 GROUP BY name ORDER BY min(prompt_pairs.rowid)"
        )
        return {row["name"]: row["accepted"] for row in self._db.query(sql, (project_id,))}

    def _refuse_while_made(self, project_id: str) -> None:
        """A job that makes pictures has read the prompts when it started. Raises StoreError."""
        running = "project_id = ? AND kind IN ('pairs', 'demo') AND state IN ('running', 'stopping')"
        if self._value(f"SELECT count(*) FROM jobs WHERE {running}", project_id):
            raise StoreError("Pictures are just being made of these prompts: wait for the end of that job, or stop it.")

    def _made(self, pair_id: str) -> int:
        return self._value("SELECT count(*) FROM image_pairs WHERE prompt_pair_id = ?", pair_id)


def _pictures(made: int) -> str:
    return "1 pair of pictures was" if made == 1 else f"{made} pairs of pictures were"
