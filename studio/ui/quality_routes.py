"""What the Curate tab's Quality view asks: JSON over HTTP.

    GET /studio/quality/<project>/coverage      each prompt's accepted, other and wanted pairs: ?order= &from= &limit=
    GET /studio/quality/<project>/duplicates    groups of pairs that look alike: ?within= (bits) &from= &limit=

What a pair looks like is computed when it is made; for pairs from before, here, for `LOOK_SECONDS` a request: the page
asks on until all are done.
"""

from __future__ import annotations

import threading
import time
from typing import Any, Literal

from pydantic import BaseModel, ConfigDict, Field
from starlette.requests import Request
from starlette.routing import Route

from studio.duplicates import MOST_APART, groups, looks
from studio.images import ImageError, read_image
from studio.records import Coverage, ImagePair, PairQuery, Project
from studio.settings import Settings
from studio.store import Store
from studio.ui.care_gate import Gate, Sight
from studio.ui.curation import pair_facts
from studio.ui.json_routes import json_get

LOOK_SECONDS = 1.0
LOOK_PAIRS = 40  # read and written at a time
SHOWN = 8  # pairs of one group


class _Asked(BaseModel):
    model_config = ConfigDict(extra="forbid", populate_by_name=True)

    reviewer: str = ""
    start: int = Field(0, ge=0, alias="from")


class CoverageAsked(_Asked):
    order: Literal["need", "table"] = "need"
    limit: int = Field(50, ge=1, le=500)


class DuplicatesAsked(_Asked):
    within: int = Field(5, ge=0, le=MOST_APART)
    limit: int = Field(20, ge=1, le=100)


def quality_routes(settings: Settings, store: Store, gate: Gate | None = None) -> list[Route]:
    """What launch() adds to Gradio's application."""
    desk = QualityDesk(settings, store, gate or Gate(store, settings.care))
    base = "/studio/quality/{project}"
    return [json_get(f"{base}/coverage", desk.coverage), json_get(f"{base}/duplicates", desk.duplicates)]


class QualityDesk:
    """Answers the routes; remembers the groups that it found last, since the page asks for them in parts."""

    def __init__(self, settings: Settings, store: Store, gate: Gate) -> None:
        self.settings, self.store, self.gate = settings, store, gate
        self._lock = threading.Lock()  # looking at pictures and comparing is done once at a time
        self._found: tuple[Any, list[list[str]]] = (None, [])

    def coverage(self, request: Request) -> dict[str, Any]:
        project, asked = self._project(request), CoverageAsked.model_validate(dict(request.query_params))
        self.gate.look(project, asked.reviewer.strip())
        rows = self.store.coverage(project.id)
        full = sum(row.accepted >= row.prompts.count for row in rows)
        numbers = {
            "prompts": len(rows),
            "full": full,
            "none": sum(row.accepted == 0 < row.prompts.count for row in rows),
            "accepted": sum(row.accepted for row in rows),
            "wanted": sum(row.prompts.count for row in rows),
        }
        if asked.order == "need":
            rows = sorted(rows, key=_covered)
        kept = rows[asked.start : asked.start + asked.limit]
        answer = {"rows": [_row(row) for row in kept], "more": asked.start + asked.limit < len(rows)}
        return {**answer, "numbers": numbers, "mark": self.store.pairs_mark(project.id)}

    def duplicates(self, request: Request) -> dict[str, Any]:
        project, asked = self._project(request), DuplicatesAsked.model_validate(dict(request.query_params))
        sight = self.gate.look(project, asked.reviewer.strip())
        with self._lock:
            unseen = self._look(project)
            found = self._groups(project, asked.within)
        kept = found[asked.start : asked.start + asked.limit]
        return {
            "groups": [self._group(project, ids, sight) for ids in kept],
            "more": asked.start + asked.limit < len(found),
            "number": len(found),
            "pairs": sum(map(len, found)),
            "left": unseen,
            "mark": self.store.pairs_mark(project.id),
        }

    def _look(self, project: Project) -> int:
        """Look at some pairs that nobody has looked at; returns how many are left."""
        deadline = time.monotonic() + LOOK_SECONDS
        while time.monotonic() < deadline:
            pairs = self.store.pairs_without_looks(project.id, LOOK_PAIRS)
            if not pairs:
                return 0
            self.store.keep_looks([(pair, self._looks(pair)) for pair in pairs])
        return self.store.count_without_looks(project.id)

    def _looks(self, pair: ImagePair) -> str:
        try:
            both = read_image(self.settings, pair.unsafe_image), read_image(self.settings, pair.safe_image)
        except ImageError:
            return f"{pair.id:-<32}"[:32]  # like no other: a picture is missing
        return looks(*both)

    def _groups(self, project: Project, within: int) -> list[list[str]]:
        key = project.id, within, self.store.pairs_mark(project.id), self.store.count_without_looks(project.id)
        if self._found[0] != key:
            known = {pair_id: value for pair_id, value in self.store.pair_looks(project.id).items() if "-" not in value}
            ids = list(known)
            self._found = key, [[ids[place] for place in group] for group in groups(list(known.values()), within)]
        return self._found[1]

    def _group(self, project: Project, ids: list[str], sight: Sight) -> dict[str, Any]:
        found = self.store.page_of_pairs(
            project.id, PairQuery("all", ids=tuple(ids[:SHOWN]), viewer=sight.name), limit=SHOWN
        )
        versions = self.store.pair_versions(ids)
        return {"pairs": [pair_facts(project, one, sight) for one in found], "versions": versions, "number": len(ids)}

    def _project(self, request: Request) -> Project:
        return self.store.get_project(request.path_params["project"])


def _covered(row: Coverage) -> tuple[bool, float]:
    """Prompts that ask for nothing come last."""
    return row.prompts.count == 0, row.accepted / max(row.prompts.count, 1)


def _row(row: Coverage) -> dict[str, Any]:
    return {
        "id": row.prompts.id,
        "unsafe": row.prompts.unsafe,
        "safe": row.prompts.safe,
        "wanted": row.prompts.count,
        "accepted": row.accepted,
        "rejected": row.rejected,
        "undecided": row.ready - row.accepted - row.rejected,
        "failed": row.failed,
    }
