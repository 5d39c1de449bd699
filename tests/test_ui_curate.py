"""Curation over HTTP: decisions that are told twice, undo, lists, blurred pictures, and who may ask for a change."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass
from io import BytesIO
from typing import Any

import numpy as np
import pytest
from PIL import Image
from starlette.applications import Starlette
from starlette.testclient import TestClient

from studio.detector_configs import NudenetConfig
from studio.images import put_image
from studio.records import ImagePair, Job, Project, PromptPair, Verdict
from studio.settings import Settings
from studio.store import Store
from studio.ui.curate import FILTERS, REASONS, SORTS, VIEWS, actions, frame
from studio.ui.curation import curation_routes
from studio.ui.pictures import routes
from studio.ui.turns import KEPT_SECONDS, Turns
from studio.ui.veils import BLUR_CELLS, REVEAL, threshold
from tests.curation_data import add_pairs, agree

PAGE = {"sec-fetch-site": "same-origin"}


@dataclass
class Visitor:
    """One reviewer's browser."""

    client: TestClient
    project: Project
    name: str = "Ann"
    told: int = 0

    def get(self, path: str, **query: Any) -> Any:
        answer = self.client.get(f"/studio/curation/{self.project.id}/{path}", params={"reviewer": self.name} | query)
        assert answer.status_code == 200, answer.text
        return answer.json()

    def post(self, path: str, body: Any, **headers: str) -> Any:
        return self.client.post(f"/studio/curation/{self.project.id}/{path}", json=body, headers=PAGE | headers)

    def decision(self, pair: dict[str, Any], verdict: str, **more: Any) -> dict[str, Any]:
        self.told += 1
        body = {"id": f"{self.told:024x}", "pair": pair["id"], "version": pair["version"], "verdict": verdict}
        return {**body, "reviewer": self.name, **more}

    def decide(self, pair: dict[str, Any], verdict: str, **more: Any) -> Any:
        answer = self.post("decide", self.decision(pair, verdict, **more))
        assert answer.status_code == 200, answer.text
        return answer.json()

    def ids(self, path: str = "pairs", **query: Any) -> list[str]:
        return [pair["id"] for pair in self.get(path, **query)["pairs"]]


@pytest.fixture
def project(store: Store) -> Project:
    return store.create_project(Project("", "Sword", "sword", "toybox", "toybox"))


@pytest.fixture
def pairs(store: Store, settings: Settings, project: Project) -> list[ImagePair]:
    return add_pairs(store, settings, project, 6)


@pytest.fixture
def client(settings: Settings, store: Store) -> Iterator[TestClient]:
    with TestClient(Starlette(routes=[*routes(settings, store), *curation_routes(settings, store)])) as client:
        yield client


@pytest.fixture
def ann(client: TestClient, project: Project, pairs: list[ImagePair]) -> Visitor:
    return Visitor(client, project)


def first(visitor: Visitor) -> dict[str, Any]:
    return visitor.get("next", limit=1)["pairs"][0]


# -- decisions ---------------------------------------------------------------------------------------------------


def test_a_decision_is_one_row_with_all_that_was_told(ann: Visitor, store: Store) -> None:
    pair = first(ann)
    answer = ann.decide(pair, "reject", reason="too different", revealed=True, milliseconds=1234)
    (row,) = store.list_verdicts(ann.project.id)
    assert (row.pair_id, row.reviewer, row.verdict, row.reason) == (pair["id"], "Ann", "reject", "too different")
    assert (row.revealed, row.milliseconds) == (True, 1234)
    assert answer["counts"] == ann.get("counts")["counts"]
    assert (answer["counts"]["rejected"], answer["counts"]["undecided"]) == (1, 5)
    assert answer["pair"]["decision"]["by"] == "Ann"


def test_the_same_decision_told_twice_is_one_row(ann: Visitor, store: Store) -> None:
    body = ann.decision(first(ann), "accept")
    answers = [ann.post("decide", body) for _ in range(3)]
    assert [answer.status_code for answer in answers] == [200] * 3
    assert len(store.list_verdicts(ann.project.id)) == 1


def test_an_id_of_another_decision_is_refused(ann: Visitor, store: Store) -> None:
    body = ann.decision(first(ann), "accept")
    ann.post("decide", body)
    answer = ann.post("decide", {**body, "verdict": "reject"})
    assert answer.status_code == 409
    assert "belongs to Ann's 'accept'" in answer.json()["error"]
    assert [verdict.verdict for verdict in store.list_verdicts(ann.project.id)] == ["accept"]


def test_undo_takes_decisions_back_one_by_one(ann: Visitor, store: Store) -> None:
    told = []
    for pair in ann.get("pairs", limit=3)["pairs"]:
        told.append(ann.decision(pair, "accept"))
        ann.post("decide", told[-1])
    for left, body in zip((2, 1, 0), reversed(told), strict=True):
        undo = {"id": f"{99 + left:024x}", "pair": body["pair"], "supersedes": body["id"], "reviewer": "Ann"}
        for _ in range(2):  # told again after an answer that was lost
            assert ann.post("undo", undo).json()["counts"]["accepted"] == left
    assert [v.verdict for v in store.list_verdicts(ann.project.id)] == ["accept"] * 3 + ["undo"] * 3
    answer = ann.post("undo", {"id": "f" * 24, "pair": told[0]["pair"], "reviewer": "Ann"})
    assert answer.status_code == 409
    assert "no standing verdict" in answer.json()["error"]


def test_a_person_overrules_the_detector_and_undo_gives_it_back(ann: Visitor, store: Store) -> None:
    pair = first(ann)
    store.add_verdict(Verdict("", pair["id"], "detector", "accept", "score"))
    assert ann.get(f"pair/{pair['id']}")["decision"]["detector"]
    assert ann.ids(shows="detector") == [pair["id"]]
    ann.decide(pair, "reject")
    assert ann.ids(shows="detector") == []
    assert ann.ids(shows="rejected") == [pair["id"]]
    ann.post("undo", {"id": "e" * 24, "pair": pair["id"], "reviewer": "Ann"})
    assert ann.ids(shows="detector", sort="safe") == [pair["id"]]


def test_a_pair_that_was_made_again_must_be_looked_at_again(ann: Visitor, store: Store) -> None:
    pair = first(ann)
    store.update_image_pair(pair["id"], safe_image="ab" * 32, tries=2)
    answer = ann.post("decide", ann.decision(pair, "accept"))
    assert answer.status_code == 409
    assert answer.json()["changed"] is True
    assert store.list_verdicts(ann.project.id) == []


@pytest.mark.parametrize(
    ("change", "says"),
    [
        ({"verdict": "maybe"}, "verdict"),
        ({"reviewer": "  Detector "}, "the detector's own name"),
        ({"reviewer": ""}, "reviewer"),
        ({"id": "short"}, "id"),
        ({"milliseconds": -1}, "milliseconds"),
        ({"picture": "x"}, "picture"),
    ],
)
def test_what_was_not_asked_for_is_refused(ann: Visitor, store: Store, change: dict[str, Any], says: str) -> None:
    answer = ann.post("decide", {**ann.decision(first(ann), "accept"), **change})
    assert answer.status_code == 422
    assert says in answer.json()["error"]
    assert store.list_verdicts(ann.project.id) == []


def test_a_pair_of_another_project_is_not_here(ann: Visitor, store: Store) -> None:
    other = store.create_project(Project("", "Other", "cane", "toybox", "toybox"))
    pair = first(ann)
    stranger = Visitor(ann.client, other)
    assert stranger.post("decide", stranger.decision(pair, "accept")).status_code == 404
    assert ann.client.get("/studio/curation/nope/counts").status_code == 404


# -- who may ask -------------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("headers", "status"),
    [
        ({"sec-fetch-site": "same-origin"}, 200),
        ({"sec-fetch-site": "cross-site", "origin": "http://testserver"}, 403),
        ({"sec-fetch-site": "same-site"}, 403),
        ({"origin": "http://testserver"}, 200),
        ({"origin": "http://evil.example"}, 403),
        ({"origin": "null"}, 403),
        ({}, 200),  # a program, not a browser
        ({"content-type": "text/plain"}, 415),  # what a form of another site can send
    ],
)
def test_another_site_cannot_decide(ann: Visitor, headers: dict[str, str], status: int) -> None:
    url = f"/studio/curation/{ann.project.id}/decide"
    answer = ann.client.post(url, json=ann.decision(first(ann), "accept"), headers=headers)
    assert answer.status_code == status, answer.text
    assert ann.get("counts")["counts"]["accepted"] == int(status == 200)


# -- lists -------------------------------------------------------------------------------------------------------


def test_lists_show_what_they_say(ann: Visitor, pairs: list[ImagePair]) -> None:
    everything = {pair["id"]: pair for pair in ann.get("pairs", shows="all")["pairs"]}
    ids = list(everything)
    assert ids == [pair.id for pair in pairs]
    for pair_id, verdict in zip(ids, ("accept", "reject", "skip"), strict=False):
        ann.decide(everything[pair_id], verdict)
    assert ann.ids(shows="accepted") == ids[:1]
    assert ann.ids(shows="rejected") == ids[1:2]
    assert ann.ids(shows="skipped") == ids[2:3]
    assert ann.ids() == ids[2:]
    assert ann.ids(shows="all", prompts=pairs[1].prompt_pair_id) == [ids[1], ids[3], ids[5]]
    assert ann.ids(sort="unsafe") == sorted(ids[2:], key=lambda one: next(p.unsafe_score for p in pairs if p.id == one))


def test_pages_follow_one_another_both_ways(ann: Visitor, pairs: list[ImagePair]) -> None:
    ids = [pair.id for pair in pairs]
    head = ann.get("pairs", limit=4)
    assert ([pair["id"] for pair in head["pairs"]], head["more"]) == (ids[:4], True)
    tail = ann.get("pairs", limit=4, after=ids[3])
    assert ([pair["id"] for pair in tail["pairs"]], tail["more"]) == (ids[4:], False)
    back = ann.get("pairs", limit=2, before=ids[4])
    assert ([pair["id"] for pair in back["pairs"]], back["more"]) == (ids[2:4], True)


def test_the_next_one_comes_round_again_at_the_end(ann: Visitor, pairs: list[ImagePair]) -> None:
    ids = [pair.id for pair in pairs]
    assert ann.ids("next", after=ids[4], limit=3) == [ids[5], ids[0], ids[1]]
    assert ann.ids("next", after=ids[0], limit=20) == ids[1:]


def test_two_open_pages_are_given_different_pairs(ann: Visitor, pairs: list[ImagePair]) -> None:
    ids = [pair.id for pair in pairs]
    assert ann.ids("next", limit=2, desk="a") == ids[:2]
    assert ann.ids("next", limit=2, desk="b") == ids[2:4]
    assert ann.ids("next", limit=2, desk="a") == ids[:2]
    assert ann.ids("next", limit=4, desk="c") == ids[4:]
    assert ann.ids("next", limit=2, desk="d") == ids[:2]  # rather the same one than none
    assert ann.ids("next", limit=2, desk="b", shows="all") == ids[:2]


def test_a_page_that_was_closed_gives_its_pairs_back() -> None:
    now = 0.0
    turns = Turns(lambda: now)
    turns.take("p", "a", {"1"})
    assert turns.of_others("p", "b") == {"1"}
    assert turns.of_others("p", "a") == turns.of_others("q", "b") == set()
    now = KEPT_SECONDS - 1
    turns.keep("p", "a")
    now += KEPT_SECONDS - 1
    assert turns.of_others("p", "b") == {"1"}
    now += 2
    assert turns.of_others("p", "b") == set()


def test_what_another_reviewer_does_shows(ann: Visitor) -> None:
    bob = Visitor(ann.client, ann.project, "Bob", told=1000)
    pair, before = first(ann), ann.get("counts")
    bob.decide(pair, "accept")
    after = ann.get("counts")
    assert after["mark"] != before["mark"]
    assert after["counts"]["accepted"] == 1
    assert ann.get(f"pair/{pair['id']}")["decision"]["by"] == "Bob"
    assert pair["id"] not in ann.ids("next")


# -- made again --------------------------------------------------------------------------------------------------


def test_redo_collects_pairs_in_the_job_that_waits(ann: Visitor, store: Store) -> None:
    made = store.create_job(Job("", ann.project.id, "pairs", {"steps": 7, "auto_accept": True}))
    store.update_job(made.id, state="done")
    one, two, three = ann.get("pairs", limit=3)["pairs"]
    for pair in (one, one, two):
        assert ann.post("redo", {"pairs": {pair["id"]: pair["version"]}}).status_code == 200
    (job,) = store.list_jobs(states=("queued",))
    assert job.config["redo"] == [one["id"], two["id"]]
    assert (job.config["steps"], job.config["auto_accept"]) == (7, False)
    assert not {one["id"], two["id"]} & set(ann.ids())
    assert ann.get(f"pair/{one['id']}")["again"]
    assert ann.get("counts")["counts"]["again"] == 2

    store.update_job(job.id, state="running")
    ann.post("redo", {"pairs": {one["id"]: one["version"], three["id"]: three["version"]}})
    waiting = store.list_jobs(states=("queued",))
    assert [job.config["redo"] for job in waiting] == [[three["id"]]]
    store.update_job(job.id, state="stopped")
    assert one["id"] in ann.ids()


def test_failed_pairs_are_listed_with_their_reason_and_tried_again(ann: Visitor, store: Store) -> None:
    (prompts,) = store.add_prompt_pairs([PromptPair("", ann.project.id, "a king", "a cook")])
    failed = ImagePair("", ann.project.id, prompts.id, 0, 1, "failed", tries=6, reason="In 6 tries no edit was clear.")
    failed = store.add_image_pair(failed)
    (shown,) = ann.get("pairs", shows="failed")["pairs"]
    assert (shown["id"], shown["reason"], shown["unsafe"]["src"]) == (failed.id, failed.reason, "")
    assert failed.id not in ann.ids(shows="all")
    assert ann.post("redo", {"failed": True}).json()["queued"] == 1
    assert ann.get("pairs", shows="failed")["pairs"][0]["again"]


# -- pictures ----------------------------------------------------------------------------------------------------


def picture(client: TestClient, source: str, **headers: str) -> np.ndarray:
    answer = client.get(f"/{source}", headers=headers)
    assert answer.status_code == 200, answer.text
    with Image.open(BytesIO(answer.content)) as shown:
        assert not shown.info.get("exif")
        return np.asarray(shown.convert("RGB"), dtype=np.float32)


@pytest.fixture
def blurred(ann: Visitor, store: Store, pairs: list[ImagePair]) -> Visitor:
    agree(store, store.update_project(ann.project.id, blur=True), ann.name)
    store.update_image_pair(pairs[1].id, safe_score=0.9)
    return ann


def test_without_blur_both_pictures_are_clear_and_may_be_kept(ann: Visitor) -> None:
    pair = first(ann)
    for side in ("unsafe", "safe"):
        answer = ann.client.get(f"/{pair[side]['src']}")
        assert "immutable" in answer.headers["cache-control"]
        assert not pair[side]["hidden"]
        assert np.std(np.diff(picture(ann.client, pair[side]["src"]), axis=1)) > 5


def test_a_blurred_picture_holds_no_detail(blurred: Visitor, store: Store, settings: Settings) -> None:
    """Its bytes are those of any picture with the same few mean colours."""
    pair = first(blurred)
    assert (pair["unsafe"]["hidden"], pair["safe"]["hidden"]) == (True, False)
    sent = blurred.client.get(f"/{pair['unsafe']['src']}").content
    clear = picture(blurred.client, pair["unsafe"]["src"], **{REVEAL: "1"})
    shown = picture(blurred.client, pair["unsafe"]["src"])
    assert np.std(np.diff(shown, axis=1)) < np.std(np.diff(clear, axis=1)) / 5

    side = 8 * BLUR_CELLS  # the test's pictures: cells of 8 pixels
    detailed = np.random.default_rng(1).integers(0, 256, (side, side, 3)).astype(np.uint8)
    cells = Image.fromarray(detailed).resize((BLUR_CELLS, BLUR_CELLS), Image.Resampling.BOX)
    flat = np.asarray(cells.resize((side, side), Image.Resampling.NEAREST))
    same = []
    for content in (detailed, flat):
        store.update_image_pair(pair["id"], unsafe_image=put_image(settings, content))
        same.append(blurred.client.get(f"/{pair['unsafe']['src']}").content)
        same.append(blurred.client.get(f"/{pair['unsafe']['src']}&small").content)
    assert same[0] == same[2] != sent
    assert same[1] == same[3]


def test_revealing_is_asked_for_and_never_kept(blurred: Visitor) -> None:
    source = first(blurred)["unsafe"]["src"]
    hidden = blurred.client.get(f"/{source}")
    clear = blurred.client.get(f"/{source}", headers={REVEAL: "1"})
    assert clear.headers["cache-control"] == "no-store"
    assert REVEAL in clear.headers["vary"]
    assert hidden.content != clear.content
    assert blurred.client.get(f"/{source}&reveal=1").content == hidden.content  # an address alone reveals nothing


def test_a_safe_picture_that_the_detector_flagged_is_blurred_too(blurred: Visitor, pairs: list[ImagePair]) -> None:
    flagged = blurred.get(f"pair/{pairs[1].id}")
    assert flagged["safe"]["hidden"]
    assert np.std(np.diff(picture(blurred.client, flagged["safe"]["src"]), axis=1)) < 5


def test_curation_never_names_a_picture(blurred: Visitor, pairs: list[ImagePair]) -> None:
    told = "".join(
        blurred.client.get(f"/studio/curation/{blurred.project.id}/{path}").text
        for path in ("pairs?shows=all&reviewer=Ann", "next?reviewer=Ann", "counts", f"pair/{pairs[0].id}?reviewer=Ann")
    )
    assert len(told) > 1000
    for pair in pairs:
        assert pair.unsafe_image[:12] not in told
        assert pair.safe_image[:12] not in told


def test_a_lost_picture_says_so(ann: Visitor, store: Store) -> None:
    pair = first(ann)
    store.update_image_pair(pair["id"], unsafe_image="ab" * 32)
    answer = ann.client.get(f"/{pair['unsafe']['src']}")
    assert (answer.status_code, answer.headers["cache-control"]) == (404, "no-store")
    assert "missing" in answer.text


def test_the_threshold_is_the_detectors(project: Project) -> None:
    nudenet = Project("", "x", "x", "toybox", "nudenet")
    assert threshold(nudenet) == NudenetConfig().threshold
    assert threshold(Project("", "x", "x", "toybox", "toybox", {"threshold": 0.8})) == 0.8
    assert threshold(Project("", "x", "x", "toybox", "unheard of")) == 0.5


# -- the frame ---------------------------------------------------------------------------------------------------


def test_the_frame_has_a_button_for_each_key_and_escapes_what_people_typed() -> None:
    html = frame(Project('a"b', "x", "<sword>", "toybox", "toybox", blur=True))
    keys = [key for _, _, key, _ in actions()]
    assert len(set(keys)) == len(keys)
    for name, _, key, _ in actions():
        assert f'data-rebind="{name}"' in html
        assert f'data-key-of="{name}"' in html
        assert f"&quot;{name}&quot;: &quot;{key}&quot;" in html
    assert all(f'data-reason="{reason}"' in html for reason in REASONS)
    assert all(f'data-view-as="{name}"' in html for name, *_ in VIEWS)
    assert all(f'value="{name}"' in html for name in (*FILTERS, *SORTS))
    assert "<sword>" not in html
    assert 'a"b' not in html
    assert 'data-blur="1"' in html
