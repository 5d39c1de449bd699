"""What stands between a reviewer and the pairs: the notice of a sensitive project, and the end of the day.

Every route that sends something of a pair, or takes a decision on one, asks here: 403 before the reviewer agreed and
after the day's limit. Who asks is a name, as everywhere (`studio.ui.viewer`). Time is counted by what the server is
told: decisions, reveals, and the page's word that somebody is there; of each gap at most IDLE_SECONDS.
"""

from __future__ import annotations

import time
from collections.abc import Callable
from dataclasses import asdict, dataclass, field
from datetime import datetime
from typing import Any
from urllib.parse import quote

from studio.care import BLURS, POSTPONED, Care, lower, notice_version
from studio.records import CareDay, Project
from studio.store import Store
from studio.ui.json_routes import ForbiddenError


class NoticeError(ForbiddenError):
    """The reviewer has not agreed to the project's notice."""

    care = "notice"

    def __init__(self, project: Project) -> None:
        super().__init__(
            f"The project {project.name!r} is sensitive: nothing of its pairs is shown before you read its notice and "
            "agree, under Curate → Review."
        )


class EndedError(ForbiddenError):
    """The reviewer's day in this project is over."""

    care = "ended"


@dataclass(frozen=True)
class Sight:
    """Who looks at pictures, and how they are sent to that reviewer."""

    name: str = ""
    care: Care = field(default_factory=Care)

    @property
    def cells(self) -> int:
        """See `studio.ui.veils.blurred`."""
        return BLURS[self.care.blur]

    @property
    def query(self) -> str:
        """Part of a picture's address: whose it is, and another one where it is sent otherwise; "" of nobody's."""
        return f"reviewer={quote(self.name, safe='')}&sight={self.care.sight}" if self.name else ""


class Gate:
    """Lets reviewers through, or raises NoticeError or EndedError. Safe to share by threads."""

    def __init__(self, store: Store, otherwise: Care | None = None, clock: Callable[[], float] = time.time) -> None:
        self.store, self.otherwise, self.clock = store, otherwise or Care(), clock
        self._agreed: set[tuple[str, str, str]] = set()  # never taken back

    def sight(self, project: Project, name: str) -> Sight:
        return Sight(name, self._now(project, name)[0])

    def has_agreed(self, project: Project, name: str) -> bool:
        if not project.is_sensitive:
            return True
        asked = (project.id, name, notice_version(project.concept, project.notice))
        if asked not in self._agreed and name and self.store.has_agreed(*asked):
            self._agreed.add(asked)
        return asked in self._agreed

    def pass_notice(self, project: Project, name: str) -> None:
        if not self.has_agreed(project, name):
            raise NoticeError(project)

    def look(self, project: Project, name: str, pair_id: str = "") -> Sight:
        """Let `name` look at pairs, or change the mind about `pair_id`, the last one decided on, when the day ended."""
        self.pass_notice(project, name)
        care, day = self._now(project, name)
        if (why := ended(project, care, day)) and not (pair_id and pair_id == day.last_pair):
            raise EndedError(why)
        return Sight(name, care)

    def sign(self, project: Project, name: str, pair_id: str = "") -> None:
        """The reviewer did something; with `pair_id`, decided on a pair."""
        if name:
            self.store.note_sign(project.id, name, self.today(), self.clock(), pair_id)

    def has_postponed(self, project: Project, name: str) -> bool:
        """Whether the break that is due was put off already."""
        return self._now(project, name)[1].postponed

    def state(self, project: Project, name: str) -> dict[str, Any]:
        """How this reviewer stands, as the page needs it: never anything of a pair."""
        care, day = self._now(project, name)
        wait = care.break_minutes * (1 + POSTPONED * day.postponed)
        due = 0 < wait <= day.since_break / 60
        return {
            "agreed": self.has_agreed(project, name),
            "ended": ended(project, care, day),
            "left": max(0, most - day.pairs) if (most := most_pairs(project, care, day)) else None,
            "break": {
                "due": due,
                "minutes": round(day.since_break / 60),
                "later": 0 if day.postponed else care.break_minutes * POSTPONED,
            },
            "sight": care.sight,
            "settings": asdict(care),
            "today": {"minutes": round(day.seconds / 60), "pairs": day.pairs},
            "limits": {"minutes": project.day_minutes, "pairs": project.day_pairs},
        }

    def today(self) -> str:
        """The server's own day."""
        return datetime.fromtimestamp(self.clock()).date().isoformat()

    def _now(self, project: Project, name: str) -> tuple[Care, CareDay]:
        return self.store.care_of(project.id, name, self.today(), self.otherwise)


def most_pairs(project: Project, care: Care, day: CareDay) -> int:
    """That the reviewer may decide on that day; 0: no limit."""
    return day.sessions * int(lower(project.day_pairs, care.day_pairs))


def ended(project: Project, care: Care, day: CareDay) -> str:
    """Why the reviewer's day in the project is over; "" while it is not."""
    minutes = day.sessions * lower(project.day_minutes, care.day_minutes)
    pairs = most_pairs(project, care, day)
    if minutes and day.seconds >= 60 * minutes:
        reached = f"{minutes:g} minutes of looking"
    elif pairs and day.pairs >= pairs:
        reached = f"{pairs:g} pair{'' if pairs == 1 else 's'}"
    else:
        return ""
    return f"You have reached today's limit of {reached}. More pairs come tomorrow, or when the owner lets you go on."
