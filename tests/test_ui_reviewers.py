"""The Reviewers view over HTTP: who sees what, the owner's word, and figures with their n."""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any

import pytest
from starlette.applications import Starlette
from starlette.testclient import TestClient

from studio.agreement import agreement
from studio.records import ImagePair, Project, Verdict
from studio.settings import Settings
from studio.store import Store
from studio.ui.agreement_figure import agreement_figure, second_reviews_figure
from studio.ui.reviewing import reviewer_routes
from tests.curation_data import add_pairs

PAIRS = 24
HERE, ELSEWHERE = ("127.0.0.1", 5), ("192.0.2.7", 5)


@pytest.fixture
def project(store: Store) -> Project:
    return store.create_project(Project("", "Sword", "sword", "toybox", "toybox", second_share=1.0))


@pytest.fixture
def pairs(store: Store, settings: Settings, project: Project) -> list[ImagePair]:
    """Ann and Bob agree on all but every sixth; Cem has reviewed one pair, alone."""
    pairs = add_pairs(store, settings, project, PAIRS)
    for number, pair in enumerate(pairs[1:]):
        first, second = (
            ("accept", "reject") if number % 6 == 0 else ("accept", "accept") if number % 2 else ("reject",) * 2
        )
        store.add_verdict(Verdict("", pair.id, "Ann", first, milliseconds=1000 + number, revealed=number < 3))  # type: ignore[arg-type]
        store.add_verdict(Verdict("", pair.id, "Bob", second, reason="too different", milliseconds=3000))  # type: ignore[arg-type]
    store.add_verdict(Verdict("", pairs[0].id, "Cem", "accept"))
    return pairs


@pytest.fixture
def client(store: Store, pairs: list[ImagePair]) -> Iterator[TestClient]:
    with TestClient(Starlette(routes=reviewer_routes(store)), client=HERE) as client:
        yield client


@pytest.fixture
def stranger(store: Store, pairs: list[ImagePair]) -> Iterator[TestClient]:
    with TestClient(Starlette(routes=reviewer_routes(store)), client=ELSEWHERE) as client:
        yield client


def look(client: TestClient, project: Project, reviewer: str = "Ann", **headers: str) -> dict[str, Any]:
    answer = client.get(f"/studio/reviewers/{project.id}", params={"reviewer": reviewer}, headers=headers)
    assert answer.status_code == 200, answer.text
    return answer.json()


def test_a_reviewers_speed_and_reveals_are_theirs_and_the_owners(
    client: TestClient, stranger: TestClient, project: Project
) -> None:
    everybody = look(client, project)
    assert everybody["owner"]
    assert all(name in everybody["work"] for name in ("Ann", "Bob", "Cem"))
    assert "1.0 s" in everybody["work"]  # the median of 1.000 to 1.022 s
    assert "3 of 23" in everybody["work"]
    own = look(stranger, project, "Bob")
    assert not own["owner"]
    assert "Bob" in own["work"]
    assert "Ann" not in own["work"]
    assert "Cem" not in own["work"]
    nobody = look(stranger, project, "")
    assert "You have not decided" in nobody["work"]


@pytest.mark.parametrize("header", ["X-Forwarded-For", "Forwarded", "X-Real-IP"])
def test_behind_a_proxy_nobody_is_the_owner(client: TestClient, project: Project, header: str) -> None:
    assert not look(client, project, **{header: "127.0.0.1"})["owner"]


def test_only_the_owner_sees_and_settles_disagreements(
    client: TestClient, stranger: TestClient, store: Store, project: Project
) -> None:
    base = f"/studio/reviewers/{project.id}"
    assert stranger.get(f"{base}/conflicts").status_code == 403
    assert stranger.post(f"{base}/share", json={"share": 0.5}).status_code == 403
    page = client.get(f"{base}/conflicts", params={"limit": 3}).json()
    assert page["more"]
    assert len(page["pairs"]) == 3
    pair = page["pairs"][0]
    said = [(voice["by"], voice["verdict"], voice["reason"]) for voice in pair["voices"]]
    assert said == [("Ann", "accept", ""), ("Bob", "reject", "too different")]
    body = {"id": "c" * 24, "pair": pair["id"], "version": pair["version"], "verdict": "accept", "reviewer": "Olga"}
    assert stranger.post(f"{base}/settle", json=body).status_code == 403
    assert client.post(f"{base}/settle", json={**body, "version": "0" * 12}).status_code == 409
    before = store.pair_counts(project.id)
    for _ in range(2):
        answer = client.post(f"{base}/settle", json=body)
        assert answer.status_code == 200, answer.text
    assert answer.json()["pair"]["decision"]["by"] == "Olga"
    after = store.pair_counts(project.id)
    assert (after.conflicts, after.accepted) == (before.conflicts - 1, before.accepted + 1)
    assert "the owner settled it (1)" in look(client, project)["reviews"]
    again = client.post(f"{base}/settle", json={**body, "id": "d" * 24, "pair": page["pairs"][1]["id"]})
    assert again.status_code == 409  # the version is another pair's


def test_the_share_draws_pairs(client: TestClient, store: Store, project: Project) -> None:
    answer = client.post(f"/studio/reviewers/{project.id}/share", json={"share": 0.0}).json()
    assert answer["share"] == 0
    assert store.second_reviews(project.id).chosen == PAIRS - 1  # what two people have judged stays as it is
    assert client.post(f"/studio/reviewers/{project.id}/share", json={"share": 1.2}).status_code == 422


def test_the_figures_stand_with_their_n(client: TestClient, project: Project, store: Store) -> None:
    opinions = store.opinions(project.id)
    found = agreement(opinions)
    assert (found.n, found.agreed) == (23, 19)
    html = look(client, project)["agreement"]
    assert "19 of 23 pairs" in html
    assert f"{found.alpha.value:.2f}" in html
    assert f"{found.two[0].kappa.value:.2f}" in html
    assert "n = 23" in html
    stand = store.second_reviews(project.id)
    assert (stand.chosen, stand.waiting, stand.open, stand.decided, stand.settled) == (24, 1, 4, 19, 0)
    assert "Of 24 pairs" in second_reviews_figure(1.0, stand)


def test_opinions_that_were_not_blind_do_not_count(store: Store, project: Project, pairs: list[ImagePair]) -> None:
    before = store.opinions(project.id)
    store.add_verdict(Verdict("", pairs[2].id, "Cem", "reject"))  # Ann's and Bob's verdict is there to see
    store.add_verdict(Verdict("", pairs[2].id, "Ann", "reject"))
    store.add_verdict(Verdict("", pairs[0].id, "Cem", "undo"))
    after = store.opinions(project.id)
    assert after == {pair_id: said for pair_id, said in before.items() if pair_id != pairs[0].id}


def test_few_pairs_give_no_coefficient() -> None:
    few = agreement({str(n): {"<ann>": "accept", "bob": "reject" if n else "accept"} for n in range(4)})
    html = agreement_figure(few)
    assert html.count("<b>too few</b>") == 2
    assert "1 of 4 pairs" in html
    assert "<ann>" not in html
    same = agreement({str(n): {"ann": "accept", "bob": "accept"} for n in range(20)})
    assert "not defined" in agreement_figure(same)
    assert "two people have reviewed the same pair" in agreement_figure(agreement({}))


def test_in_bulk_is_told_apart(store: Store, project: Project, pairs: list[ImagePair]) -> None:
    from studio.records import BulkAction

    action = store.begin_bulk(BulkAction("b", project.id, "Dan", {}))
    store.decide_pairs(action, "accept", "", {pairs[0].id: pairs[0].version})
    (dan,) = [one for one in store.reviewer_work(project.id) if one.reviewer == "Dan"]
    assert (dan.accepted, dan.in_bulk, dan.seconds) == (1, 1, None)
    assert "Dan" not in store.opinions(project.id).get(pairs[0].id, {})
