"""Prompts that were put aside, and attempts to make a model draw the concept. Part of the store."""

from __future__ import annotations

from collections.abc import Iterable

from studio.database import RecordFile, StoreError
from studio.records import Attempt, PromptShelf

SAME_ATTEMPT = "project_id = ? AND prompt = ? AND seed = ? AND checkpoint = ? AND adapter_sha256 = ?"


class AttemptRows(RecordFile):
    """The part of the store that Compare fills."""

    def add_shelf(self, shelf: PromptShelf) -> PromptShelf:
        """Raises StoreError where the project has a shelf of this name."""
        with self._writing():
            self._refuse_taken(shelf.project_id, shelf.name)
            return self._insert(shelf)

    def get_shelf(self, shelf_id: str) -> PromptShelf:
        return self._get(PromptShelf, shelf_id)

    def list_shelves(self, project_id: str) -> list[PromptShelf]:
        """In the order they were saved."""
        return self._select(PromptShelf, "project_id = ?", project_id)

    def rename_shelf(self, shelf_id: str, name: str) -> PromptShelf:
        """Raises StoreError where another shelf of the project has this name."""
        with self._writing():
            shelf = self.get_shelf(shelf_id)
            if name != shelf.name:
                self._refuse_taken(shelf.project_id, name)
            return self._update(PromptShelf, shelf_id, {"name": name})

    def remove_shelf(self, shelf_id: str) -> None:
        """Removing one that is gone is no error: another visitor was first."""
        self._change("DELETE FROM prompt_shelves WHERE id = ?", (shelf_id,))

    def add_attempts(self, attempts: Iterable[Attempt]) -> list[Attempt]:
        """Keep those that are new, and return them: the same prompt and seed by the same model counts once."""
        kept = []
        with self._writing():
            for one in attempts:
                same = (one.project_id, one.prompt, one.seed, one.checkpoint, one.adapter_sha256)
                if not self._select(Attempt, SAME_ATTEMPT, *same):
                    kept.append(self._insert(one))
        return kept

    def list_attempts(self, project_id: str) -> list[Attempt]:
        """Oldest first."""
        return self._select(Attempt, "project_id = ?", project_id)

    def count_attempts(self, project_id: str) -> int:
        """Rows are only ever added, so what has the same count is the same."""
        return int(self._value("SELECT count(*) FROM attempts WHERE project_id = ?", project_id))

    def _refuse_taken(self, project_id: str, name: str) -> None:
        if self._select(PromptShelf, "project_id = ? AND name = ?", project_id, name):
            raise StoreError(
                f"There is a shelf named {name!r} already. Choose another name, or remove that shelf first."
            )
