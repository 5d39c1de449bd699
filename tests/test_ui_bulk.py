"""The grid over HTTP: pages of a filter, previews, actions on many pairs, and their one undo."""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any

import pytest
from starlette.applications import Starlette
from starlette.testclient import TestClient

from studio.records import ImagePair, Project, Verdict
from studio.settings import Settings
from studio.store import DETECTOR, Store
from studio.ui.bulk import bulk_routes
from studio.ui.grid import ACCEPTS, REJECTS, SORTS, grid_frame
from tests.curation_data import add_pairs, agree

PAIRS = 10
ID, OTHER = "a" * 24, "b" * 24


@pytest.fixture
def project(store: Store) -> Project:
    return store.create_project(Project("", "Sword", "sword", "toybox", "toybox"))


@pytest.fixture
def pairs(store: Store, settings: Settings, project: Project) -> list[ImagePair]:
    return add_pairs(store, settings, project, PAIRS)


class Grid:
    """One visitor's grid."""

    def __init__(self, client: TestClient, project: Project) -> None:
        self.client, self.base = client, f"/studio/bulk/{project.id}"

    def get(self, path: str, **query: Any) -> Any:
        answer = self.client.get(f"{self.base}/{path}", params=query)
        assert answer.status_code == 200, answer.text
        return answer.json()

    def ask(self, path: str, status: int = 200, **body: Any) -> Any:
        answer = self.client.post(f"{self.base}/{path}", json=body)
        assert answer.status_code == status, answer.text
        return answer.json()

    def ids(self, **query: Any) -> list[str]:
        return [pair["id"] for pair in self.get("pairs", **query)["pairs"]]


@pytest.fixture
def grid(store: Store, project: Project, pairs: list[ImagePair]) -> Iterator[Grid]:
    with TestClient(Starlette(routes=bulk_routes(store)), client=("192.0.2.7", 5)) as client:
        yield Grid(client, project)


def seen(*pairs: ImagePair) -> dict[str, str]:
    return {pair.id: pair.version for pair in pairs}


# -- lists -------------------------------------------------------------------------------------------------------------


def test_a_page_follows_the_filter_and_its_order(grid: Grid, pairs: list[ImagePair]) -> None:
    page = grid.get("pairs", sort="safe", unsafe_from=0.7, limit=3)
    expected = sorted((p for p in pairs if p.unsafe_score >= 0.7), key=lambda p: -p.safe_score)
    assert [pair["id"] for pair in page["pairs"]] == [pair.id for pair in expected[:3]]
    assert page["more"]
    rest = grid.ids(sort="safe", unsafe_from=0.7, after=expected[2].id)
    assert rest == [pair.id for pair in expected[3:]]
    assert grid.ids(sort="safe", reverse=True) == [pair.id for pair in pairs]
    assert grid.get("numbers", unsafe_from=0.7)["match"] == len(expected)
    assert grid.ids(words="pirate") == [pair.id for pair in pairs[1::2]]


def test_thresholds_propose_and_decide_nothing(grid: Grid, store: Store, project: Project) -> None:
    asked = {"accept_unsafe": 0.75, "reject_safe": 0.08}
    page = grid.get("pairs", **asked)["pairs"]
    proposals = [pair["proposal"] for pair in page]
    assert {"accept", "reject", "none"} == set(proposals)
    numbers = grid.get("numbers", **asked)
    assert numbers["proposals"] == {name: proposals.count(name) for name in ("accept", "reject", "none")}
    assert grid.ids(**asked, proposal="reject") == [pair["id"] for pair in page if pair["proposal"] == "reject"]
    assert grid.get("numbers")["proposals"] is None
    assert store.list_verdicts(project.id) == []


def test_who_decided_is_listed(grid: Grid, store: Store, pairs: list[ImagePair]) -> None:
    for pair, reviewer in zip(pairs, ("Bob", DETECTOR, "Ann", "Bob"), strict=False):
        store.add_verdict(Verdict("", pair.id, reviewer, "accept"))
    assert grid.get("numbers")["reviewers"] == ["Ann", "Bob", DETECTOR]
    assert grid.ids(shows="all", by="Bob") == [pairs[0].id, pairs[3].id]


# -- actions -----------------------------------------------------------------------------------------------------------


def test_chosen_pairs_are_decided_on_and_taken_back_as_one(
    grid: Grid, store: Store, project: Project, pairs: list[ImagePair]
) -> None:
    body = {"verdict": "reject", "reason": "broken picture", "reviewer": "Ann", "pairs": seen(*pairs[:4])}
    preview = grid.ask("preview", **body)
    assert [(part["verdict"], part["number"]) for part in preview["parts"]] == [("reject", 4)]
    assert store.list_verdicts(project.id) == []
    for _ in range(2):  # told again after an answer that was lost
        assert grid.ask("apply", id=ID, **body)["action"]["sizes"] == {"reject": 4}
    rows = store.list_verdicts(project.id)
    assert {(v.reviewer, v.verdict, v.reason, v.bulk_id) for v in rows} == {("Ann", "reject", "broken picture", ID)}
    (action,) = grid.get("actions")["actions"]
    assert (action["words"], action["done"], action["undone"]) == ("Reject 4 chosen pairs", True, False)
    assert grid.ask("undo", action=ID, reviewer="Ann")["undone"] == 4
    assert grid.ask("undo", action=ID, reviewer="Ann")["undone"] == 0
    assert store.current_verdicts(project.id) == {}
    assert grid.get("actions")["actions"][0]["undone"]


def test_a_triage_is_previewed_and_decides_what_it_proposed(
    grid: Grid, store: Store, project: Project, pairs: list[ImagePair]
) -> None:
    which = {"accept_unsafe": 0.75, "reject_safe": 0.08}
    body = {"verdict": "triage", "reviewer": "Ann", "which": which}
    preview = grid.ask("preview", **body)
    reject, accept = preview["parts"]
    assert (reject["verdict"], accept["verdict"]) == ("reject", "accept")
    proposed = grid.get("numbers", **which)["proposals"]
    assert (reject["number"], accept["number"]) == (proposed["reject"], proposed["accept"])
    assert reject["reason"] == "triage: safe score at least 0.08"
    assert [pair["id"] for pair in accept["first"]] == grid.ids(**which, proposal="accept")
    action = grid.ask("apply", id=ID, until=preview["until"], **body)["action"]
    assert action["sizes"] == {"reject": reject["number"], "accept": accept["number"]}
    assert action["words"] == "Reject by triage: safe score at least 0.08; Accept by triage: unsafe score at least 0.75"
    accepted = {pair.id for pair in store.accepted_pairs(project.id)}
    assert accepted == {pair.id for pair in pairs if pair.unsafe_score >= 0.75 and pair.safe_score < 0.08}
    assert store.pair_counts(project.id).undecided == proposed["none"]
    grid.ask("undo", action=ID, reviewer="Ann")
    assert store.pair_counts(project.id).undecided == PAIRS


def test_a_preview_tells_whose_decisions_it_replaces(grid: Grid, store: Store, pairs: list[ImagePair]) -> None:
    for pair, reviewer in zip(pairs, ("Bob", "Bob", DETECTOR), strict=False):
        store.add_verdict(Verdict("", pair.id, reviewer, "accept"))
    (part,) = grid.ask("preview", verdict="reject", reviewer="Ann", which={"shows": "all"})["parts"]
    assert (part["number"], part["replaces"]) == (PAIRS, {"Bob": 2, DETECTOR: 1})
    assert part["reason"] == "all pairs"


def test_pairs_made_after_the_preview_stay_undecided(
    grid: Grid, store: Store, settings: Settings, project: Project
) -> None:
    body = {"verdict": "accept", "reviewer": "Ann", "which": {"shows": "undecided"}}
    until = grid.ask("preview", **body)["until"]
    add_pairs(store, settings, project, 2)
    assert grid.ask("apply", id=ID, until=until, **body)["action"]["sizes"] == {"accept": PAIRS}
    assert store.pair_counts(project.id).undecided == 2


def test_a_pair_that_changed_since_it_was_chosen_is_left_out(
    grid: Grid, store: Store, project: Project, pairs: list[ImagePair]
) -> None:
    chosen = seen(*pairs[:3])
    store.update_image_pair(pairs[1].id, safe_image="ab" * 32)
    action = grid.ask("apply", id=ID, verdict="accept", reviewer="Ann", pairs=chosen)["action"]
    assert action["sizes"] == {"accept": 2}
    assert pairs[1].id not in store.current_verdicts(project.id)


def test_another_persons_action_is_the_owners_to_take_back(
    grid: Grid, store: Store, project: Project, pairs: list[ImagePair]
) -> None:
    grid.ask("apply", id=ID, verdict="accept", reviewer="Ann", pairs=seen(*pairs))
    assert "Ann or the owner" in grid.ask("undo", 403, action=ID, reviewer="Bob")["error"]
    with TestClient(Starlette(routes=bulk_routes(store)), client=("127.0.0.1", 5)) as client:
        assert Grid(client, project).ask("undo", action=ID, reviewer="Bob")["undone"] == PAIRS
    other = store.create_project(Project("", "Other", "cane", "toybox", "toybox"))
    assert Grid(grid.client, other).ask("undo", 404, action=ID, reviewer="Ann")


@pytest.mark.parametrize(
    ("body", "says"),
    [
        ({}, "name pairs or a filter"),
        ({"pairs": {"a": "b"}, "which": {}}, "not both"),
        ({"verdict": "triage", "which": {}}, "threshold"),
        ({"which": {"shows": "nothing"}}, "shows"),
        ({"which": {}, "reviewer": "detector"}, "the detector's own name"),
        ({"which": {}, "verdict": "undo"}, "verdict"),
    ],
)
def test_what_was_not_asked_for_is_refused(
    grid: Grid, store: Store, project: Project, body: dict[str, Any], says: str
) -> None:
    told = {"verdict": "accept", "reviewer": "Ann", **body}
    assert says in grid.ask("preview", 422, **told)["error"]
    assert says in grid.ask("apply", 422, id=ID, **told)["error"]
    assert store.list_verdicts(project.id) == []


def test_an_id_of_another_action_is_refused(grid: Grid, pairs: list[ImagePair]) -> None:
    grid.ask("apply", id=ID, verdict="accept", reviewer="Ann", pairs=seen(*pairs[:2]))
    answer = grid.ask("apply", 409, id=ID, verdict="reject", reviewer="Ann", pairs=seen(*pairs[:2]))
    assert "another action" in answer["error"]


def test_pictures_of_a_blurred_project_are_asked_for_blurred(grid: Grid, store: Store, project: Project) -> None:
    agree(store, store.update_project(project.id, blur=True), "Ann")
    assert all("&blur" in pair["unsafe"]["src"] for pair in grid.get("pairs", reviewer="Ann")["pairs"])


def test_the_frame_has_every_field_and_escapes(project: Project) -> None:
    html = grid_frame(Project('a"b', "x", "<sword>", "toybox", "toybox"))
    for name in (
        *SORTS,
        *(f"{range_}_{end}" for range_ in ("unsafe", "safe", "distance", "tries") for end in ("from", "to")),
    ):
        assert f'"{name}"' in html
    for name, _, _ in (*ACCEPTS, *REJECTS):
        assert f'data-query="{name}"' in html
    assert 'a"b' not in html
