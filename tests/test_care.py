"""Care for reviewers: consent before a sensitive project, grey pictures, breaks and limits, all of it on the server."""

from __future__ import annotations

import re
from collections.abc import Iterator
from dataclasses import asdict, dataclass, field
from io import BytesIO
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from PIL import Image
from starlette.applications import Starlette
from starlette.testclient import TestClient

from studio.agreement import agreement
from studio.care import Care, CareError, lower, notice, notice_version, read_care, write_care
from studio.records import ImagePair, Project, Verdict
from studio.settings import REPOSITORY, Settings
from studio.store import Store
from studio.ui.bulk import bulk_routes
from studio.ui.care import care_dialogs, care_places
from studio.ui.care_gate import Gate
from studio.ui.curation import curation_routes
from studio.ui.quality_routes import quality_routes
from studio.ui.reviewing import reviewer_routes
from studio.ui.strengths import strength_routes
from studio.ui.veils import BLUR_CELLS, REVEAL
from tests.curation_data import add_pairs, agree

OWNER, GUEST = ("127.0.0.1", 5000), ("10.0.0.7", 5000)
MORNING = 1_800_000_000.0


@dataclass
class Desk:
    """A reviewer's browser, and the server's clock."""

    client: TestClient
    store: Store
    project: Project
    pairs: list[ImagePair]
    now: list[float] = field(default_factory=lambda: [MORNING])
    told: int = 0

    def get(self, path: str, status: int = 200, name: str = "Ann", **query: Any) -> Any:
        answer = self.client.get(f"/studio/{path}", params={"reviewer": name, **query})
        assert answer.status_code == status, answer.text
        return answer.json()

    def post(self, path: str, status: int = 200, name: str = "Ann", **body: Any) -> Any:
        answer = self.client.post(f"/studio/{path}?reviewer={name}", json={"reviewer": name, **body})
        assert answer.status_code == status, answer.text
        return answer.json()

    def care(self, path: str, status: int = 200, name: str = "Ann", **body: Any) -> Any:
        return self.post(f"care/{self.project.id}/{path}", status, name, **body)

    def wants(self, name: str = "Ann", status: int = 200, **changes: Any) -> Any:
        return self.care("settings", status, name, **{**asdict(Care()), **changes})

    def state(self, name: str = "Ann") -> Any:
        return self.get(f"curation/{self.project.id}/counts", name=name)["care"]

    def next(self, status: int = 200, name: str = "Ann") -> Any:
        return self.get(f"curation/{self.project.id}/next", status, name, limit=1)

    def decide(self, pair: ImagePair, verdict: str = "accept", status: int = 200, name: str = "Ann") -> Any:
        self.told += 1
        body = {"id": f"{self.told:024x}", "pair": pair.id, "version": pair.version, "verdict": verdict}
        return self.post(f"curation/{self.project.id}/decide", status, name, **body)

    def picture(self, source: str, **headers: str) -> np.ndarray:
        answer = self.client.get(f"/{source}", headers=headers)
        assert answer.status_code == 200, answer.text
        with Image.open(BytesIO(answer.content)) as shown:
            return np.asarray(shown.convert("RGB"), dtype=np.int16)


@pytest.fixture
def desk(settings: Settings, store: Store) -> Iterator[Desk]:
    """A reviewer at a sensitive project of which nobody has agreed to the notice."""
    yield from _desk(settings, store, GUEST)


@pytest.fixture
def owner(settings: Settings, store: Store) -> Iterator[Desk]:
    yield from _desk(settings, store, OWNER)


def _desk(settings: Settings, store: Store, client: tuple[str, int]) -> Iterator[Desk]:
    project = store.create_project(Project("", "Hidden", "sword", "toybox", "toybox", blur=True))
    now = [MORNING]
    gate = Gate(store, settings.care, clock=lambda: now[0])
    routes = [
        *curation_routes(settings, store, gate),
        *bulk_routes(store, gate),
        *quality_routes(settings, store, gate),
        *reviewer_routes(store, gate),
        *strength_routes(settings, store, gate),
    ]
    with TestClient(Starlette(routes=routes), client=client) as web:
        yield Desk(web, store, project, add_pairs(store, settings, project, 6), now)


# -- the notice --------------------------------------------------------------------------------------------------------


def refusals(desk: Desk, name: str) -> dict[str, Any]:
    """What every question and change that touches a pair is answered."""
    project, pair = desk.project.id, desk.pairs[0]
    decision = {"id": "ab" * 12, "pair": pair.id, "version": pair.version, "verdict": "accept"}
    chosen = {"verdict": "accept", "pairs": {pair.id: pair.version}}
    gets = (
        "curation/{}/next", "curation/{}/pairs", f"curation/{{}}/pair/{pair.id}", "bulk/{}/pairs", "bulk/{}/numbers",
        "bulk/{}/actions", "quality/{}/coverage", "quality/{}/duplicates", f"strengths/{{}}/{pair.id}",
    )  # fmt: skip
    posts: dict[str, dict[str, Any]] = {
        "curation/{}/decide": decision,
        "curation/{}/undo": {"id": "cd" * 12, "pair": pair.id},
        "bulk/{}/preview": chosen,
        "bulk/{}/apply": {**chosen, "id": "ef" * 12},
    }
    answers = {path: desk.get(path.format(project), 403, name) for path in gets}
    return answers | {path: desk.post(path.format(project), 403, name, **body) for path, body in posts.items()}


def test_before_consent_nothing_of_the_pairs_is_sent(desk: Desk) -> None:
    for answer in refusals(desk, "Ann").values():
        assert answer["care"] == "notice"
        assert "sensitive" in answer["error"]
        assert "knight" not in str(answer)
    for side in ("unsafe", "safe", "difference"):
        for headers in ({}, {REVEAL: "1"}):
            for query in ("", "?reviewer=Ann", "?small&blur"):
                answer = desk.client.get(f"/studio/pairs/{desk.pairs[0].id}/{side}.webp{query}", headers=headers)
                assert (answer.status_code, answer.headers["cache-control"]) == (403, "no-store")
                assert answer.headers["content-type"].startswith("text/plain")
    counts = desk.get(f"curation/{desk.project.id}/counts")
    assert counts["counts"]["ready"] == 6
    assert not counts["care"]["agreed"]
    assert "knight" not in str(counts)
    assert desk.store.list_verdicts(desk.project.id) == []


def test_who_agrees_sees_the_pairs_and_is_not_asked_again(desk: Desk) -> None:
    version = notice_version("sword", "")
    assert desk.care("agree", version=version)["care"]["agreed"]
    desk.care("agree", version=version)
    (row,) = desk.store.list_consents(desk.project.id)
    assert (row["reviewer"], row["version"]) == ("Ann", version)
    assert row["created"] > MORNING / 2
    assert desk.picture(desk.next()["pairs"][0]["unsafe"]["src"]).shape[2] == 3
    desk.next(403, name="Bob")
    with pytest.raises(Exception, match="append-only"):
        desk.store._change("UPDATE consents SET reviewer = 'Bob'", ())


def test_a_changed_notice_is_agreed_to_anew(desk: Desk) -> None:
    before = notice_version("sword", "")
    desk.care("agree", version=before)
    desk.next()
    desk.store.update_project(desk.project.id, notice="Our counsellor is Eve, room 5.")
    desk.next(403)
    assert "changed since you read it" in desk.care("agree", 409, version=before)["error"]
    desk.care("agree", version=notice_version("sword", "Our counsellor is Eve, room 5."))
    desk.next()
    desk.store.update_project(desk.project.id, notice="")
    desk.next()  # to those words Ann has agreed before


def test_a_project_that_is_not_sensitive_has_no_notice(desk: Desk) -> None:
    project = desk.store.update_project(desk.project.id, blur=False)
    assert 'data-is="notice"' not in care_places(project)
    assert desk.next()["care"]["agreed"]
    assert "no notice" in desk.care("agree", 409, version=notice_version("sword", ""))["error"]


def test_the_notice_says_what_it_must() -> None:
    said = " ".join(words for _, words in notice("sword", "Eve is in room 5."))
    for words in (
        "“sword”", "can be disturbing", "come blurred", "skip any pair", "stop at any time", "without penalty",
        "Tell whoever asked you", "may be illegal", "nothing is claimed", "Eve is in room 5.",
    ):  # fmt: skip
        assert words in said
    project = Project("p", "<b>", "sword", "toybox", "toybox", blur=True, notice="<i>Eve</i>")
    assert "<i>" not in care_places(project)
    assert "<b>" not in care_places(project)
    assert notice_version("sword", "") != notice_version("cane", "")


@pytest.mark.parametrize("name", ["Ann\u202e", "Ann\u200b"])
def test_no_name_looks_like_another_one(desk: Desk, name: str) -> None:
    assert "characters that are not shown" in desk.wants(name, 422)["error"]


def test_only_the_owner_adds_to_the_notice_and_sets_limits(desk: Desk) -> None:
    rules: dict[str, Any] = {"notice": " Ask Eve. ", "day_minutes": 30, "day_pairs": 40}
    assert "Only the owner" in desk.care("rules", 403, **rules)["error"]
    assert "Only the owner" in desk.care("more", 403)["error"]
    assert "rules" not in desk.get(f"care/{desk.project.id}")


def test_the_owner_sets_rules_and_sees_the_day(owner: Desk) -> None:
    rules: dict[str, Any] = {"notice": "Ask Eve.", "day_minutes": 30.0, "day_pairs": 40}
    assert owner.care("rules", name="Olga", **{**rules, "notice": " Ask Eve. "})["rules"] == rules
    assert (owner.store.get_project(owner.project.id).notice, owner.state()["limits"]) == (
        "Ask Eve.",
        {"minutes": 30.0, "pairs": 40},
    )
    agree(owner.store, owner.store.get_project(owner.project.id), "Ann")
    owner.decide(owner.pairs[0])
    (day,) = owner.get(f"care/{owner.project.id}", name="Olga")["days"]
    assert day == {"reviewer": "Ann", "minutes": 0, "pairs": 1, "ended": False}


# -- how pictures are shown --------------------------------------------------------------------------------------------


def colour(picture: np.ndarray) -> int:
    """How far any pixel is from grey, of 255."""
    return int((picture.max(axis=2) - picture.min(axis=2)).max())


def test_grey_is_made_on_the_server_also_for_revealed_pictures_and_thumbnails(desk: Desk) -> None:
    agree(desk.store, desk.project, "Ann", "Bob")
    pair = desk.next()["pairs"][0]
    coloured = desk.picture(pair["unsafe"]["src"], **{REVEAL: "1"})
    assert colour(coloured) > 100
    desk.wants(grey=True)
    grey = desk.get(f"curation/{desk.project.id}/pair/{pair['id']}")
    assert grey["unsafe"]["src"] != pair["unsafe"]["src"]  # so that no browser keeps the coloured one
    for side in ("unsafe", "safe", "difference"):
        for source in (grey[side]["src"], f"{grey[side]['src']}&small", pair[side]["src"]):
            for headers in ({}, {REVEAL: "1"}):
                assert colour(desk.picture(source, **headers)) <= 2, source
    revealed = desk.picture(grey["unsafe"]["src"], **{REVEAL: "1"})
    assert np.abs(np.diff(revealed[..., 0], axis=1)).mean() > 5  # grey, and clear
    stale = desk.client.get(f"/{pair['unsafe']['src']}")
    assert stale.headers["cache-control"] == "no-store"
    bob = desk.next(name="Bob")["pairs"][0]
    assert colour(desk.picture(bob["unsafe"]["src"], **{REVEAL: "1"})) > 100


def test_the_strength_of_the_blur_is_the_reviewers(desk: Desk) -> None:
    agree(desk.store, desk.project, "Ann")

    def detail() -> float:
        shown = desk.picture(desk.next()["pairs"][0]["unsafe"]["src"])
        return float(np.abs(np.diff(shown.astype(float), axis=1)).mean())

    strong = detail()
    desk.wants(blur="light")
    light = detail()
    desk.wants(blur="strongest")
    assert detail() < strong < light
    assert BLUR_CELLS == 6


def test_settings_are_kept_under_the_name_and_have_bounds(desk: Desk, settings: Settings) -> None:
    desk.wants(grey=True, small=True, reveal="press", break_minutes=12.5, day_pairs=7)
    kept = Store(settings.database)
    care, _ = kept.care_of(desk.project.id, "Ann", "2027-01-15", Care())
    kept.close()
    assert care == Care("strong", "press", True, True, 12.5, 0.0, 7)
    assert desk.state("Bob")["settings"] == asdict(Care())
    for wrong in ({"blur": "none"}, {"reveal": "never"}, {"break_minutes": -1}, {"day_pairs": 10**9}):
        desk.wants(status=422, **wrong)


def test_defaults_come_from_the_environment(tmp_path: Path) -> None:
    said = {"DUO_STUDIO_DATA": str(tmp_path), "DUO_STUDIO_CARE": "grey=on, break_minutes=25,day_pairs=200"}
    assert Settings.from_environment(said).care == Care(grey=True, break_minutes=25, day_pairs=200)
    assert read_care(write_care(Care(blur="light", small=True))) == Care(blur="light", small=True)
    for wrong, why in (
        ("gray=on", "there is no 'gray'"),
        ("grey=yes", "on or off"),
        ("break_minutes=often", "a number"),
        ("blur=none", "use light, strong, strongest"),
        ("day_minutes=-5", "between 0 and 1440"),
    ):
        with pytest.raises(CareError, match=why):
            read_care(wrong)


# -- breaks and limits -------------------------------------------------------------------------------------------------


@pytest.fixture
def agreed(desk: Desk) -> Desk:
    agree(desk.store, desk.project, "Ann", "Bob")
    return desk


def test_time_of_looking_is_counted_up_to_a_minute_a_gap(agreed: Desk) -> None:
    for pair, after in zip(agreed.pairs, (0, 10, 40, 500), strict=False):
        agreed.now[0] += after
        agreed.decide(pair)
    row = agreed.store.care_days(agreed.project.id, Gate(agreed.store, clock=lambda: MORNING).today())[0]
    assert (row.seconds, row.pairs) == (110.0, 4)  # 10 + 40 + 60
    assert row.since_break == 0  # more than five minutes away are a break


def test_a_break_is_due_can_be_put_off_once_and_starts_anew(agreed: Desk) -> None:
    agreed.wants(break_minutes=4)
    agreed.decide(agreed.pairs[0])
    for _ in range(4):
        assert not agreed.state()["break"]["due"]
        agreed.now[0] += 60
        agreed.care("sign")
    assert agreed.state()["break"] == {"due": True, "minutes": 4, "later": 1.0}
    agreed.now[0] += 50  # while the question stands
    assert not agreed.care("break", later=True)["care"]["break"]["due"]
    agreed.now[0] += 60
    assert agreed.care("sign")["care"]["break"] == {"due": True, "minutes": 5, "later": 0}
    assert "once" in agreed.care("break", 409, later=True)["error"]
    agreed.now[0] += 200
    assert agreed.care("break")["care"]["break"] == {"due": False, "minutes": 0, "later": 1.0}
    assert agreed.state()["today"]["minutes"] == 5  # neither question nor break counts
    agreed.wants(break_minutes=0)
    for _ in range(40):
        agreed.now[0] += 60
        agreed.care("sign")
    assert not agreed.state()["break"]["due"]


def test_the_last_pair_of_the_day_ends_it(agreed: Desk) -> None:
    agreed.store.update_project(agreed.project.id, day_pairs=2)
    agreed.decide(agreed.pairs[0])
    agreed.decide(agreed.pairs[0], "reject")  # the same pair: counts once
    assert not agreed.state()["ended"]
    answer = agreed.decide(agreed.pairs[1], "skip")
    assert "limit of 2 pairs" in answer["care"]["ended"]
    for answer in refusals_after_the_end(agreed):
        assert answer["care"] == "ended"
    address = f"/studio/pairs/{agreed.pairs[3].id}/safe.webp?reviewer=Ann"
    assert agreed.client.get(address).status_code == 403
    agreed.decide(agreed.pairs[1], "accept")  # the mind may be changed about the last one
    verdicts = agreed.store.list_verdicts(agreed.project.id)
    assert [verdict.pair_id for verdict in verdicts] == [pair.id for pair in agreed.pairs[:2] for _ in range(2)]
    agreed.decide(agreed.pairs[3], name="Bob")  # Bob's day is his own
    agreed.now[0] += 86_400
    agreed.decide(agreed.pairs[4])


def refusals_after_the_end(desk: Desk) -> Iterator[Any]:
    yield desk.decide(desk.pairs[2], status=403)
    yield desk.next(403)
    yield desk.care("sign", 403)
    for path in ("curation/{}/pairs", "bulk/{}/pairs", "quality/{}/coverage", f"curation/{{}}/pair/{desk.pairs[2].id}"):
        yield desk.get(path.format(desk.project.id), 403)


def test_minutes_end_the_day_too(agreed: Desk) -> None:
    agreed.store.update_project(agreed.project.id, day_minutes=1.5)
    agreed.decide(agreed.pairs[0])
    agreed.now[0] += 60
    agreed.decide(agreed.pairs[1])
    agreed.now[0] += 30
    assert "1.5 minutes" in agreed.care("sign")["care"]["ended"]
    agreed.decide(agreed.pairs[2], status=403)


def test_a_reviewer_lowers_the_limit_and_cannot_raise_it(agreed: Desk) -> None:
    agreed.store.update_project(agreed.project.id, day_pairs=3)
    assert "you can set less, not 4" in agreed.wants(status=409, day_pairs=4)["error"]
    agreed.wants(day_pairs=1)
    assert "limit of 1 pair." in agreed.decide(agreed.pairs[0])["care"]["ended"]
    agreed.store.set_care("Ann", Care(day_pairs=50))  # as it was allowed in another project
    for pair in agreed.pairs[1:3]:
        assert not agreed.state()["ended"]
        agreed.decide(pair)
    assert "limit of 3 pairs" in agreed.state()["ended"]
    assert (lower(0, 0), lower(0, 5), lower(4, 0), lower(4, 9), lower(9, 4)) == (0, 5, 4, 4, 4)


def test_the_owners_word_adds_a_session_for_the_day(owner: Desk) -> None:
    agree(owner.store, owner.project, "Ann")
    owner.store.update_project(owner.project.id, day_pairs=1)
    owner.decide(owner.pairs[0])
    owner.decide(owner.pairs[1], status=403)
    (day,) = owner.get(f"care/{owner.project.id}", name="Olga")["days"]
    assert day["ended"]
    (day,) = owner.care("more", name="Ann")["days"]
    assert not day["ended"]
    owner.decide(owner.pairs[1])
    owner.decide(owner.pairs[2], status=403)


def test_reveals_are_signs_of_the_reviewer_and_thumbnails_are_not(agreed: Desk) -> None:
    agreed.decide(agreed.pairs[0])
    source = agreed.next()["pairs"][0]["unsafe"]["src"]
    agreed.now[0] += 30
    agreed.picture(source)
    assert agreed.state()["today"]["minutes"] == 0
    agreed.picture(source, **{REVEAL: "1"})
    agreed.now[0] += 30
    agreed.picture(source, **{REVEAL: "1"})
    assert agreed.state()["today"]["minutes"] == 1


# -- skips -------------------------------------------------------------------------------------------------------------


def test_skips_are_in_no_figure_of_speed_or_agreement(store: Store, settings: Settings, project: Project) -> None:
    store.update_project(project.id, second_share=1.0)
    pairs = add_pairs(store, settings, project, 4)
    for number, pair in enumerate(pairs[:2]):
        for name in ("Ann", "Bob"):
            store.add_verdict(Verdict("", pair.id, name, "accept", milliseconds=1000 + 1000 * number))

    def figures() -> tuple[Any, ...]:
        speeds = [(work.reviewer, work.seconds, work.accepted) for work in store.reviewer_work(project.id)]
        return speeds, agreement(store.opinions(project.id)), store.second_reviews(project.id)

    before = figures()
    assert before[0] == [("Ann", 1.5, 2), ("Bob", 1.5, 2)]
    for pair in pairs[2:]:
        store.add_verdict(Verdict("", pair.id, "Ann", "skip", milliseconds=90_000))
        store.add_verdict(Verdict("", pair.id, "Bob", "skip", milliseconds=1))
    assert figures() == before


# -- words -------------------------------------------------------------------------------------------------------------

HELPS = r"(?:protect|shield|safeguard|spare|harmless|heal|relie[fv]|prevent|safe to look|keeps? (?:you|people) safe)"
CLAIM = re.compile(
    rf"\b(?:blur|grey|veil)\w*\b[^.;:!?]{{0,80}}\b{HELPS}|{HELPS}\w*\b[^.;:!?]{{0,40}}\bby (?:blur|grey)", re.I
)


def test_no_page_claims_that_blur_protects() -> None:
    pages = [*REPOSITORY.glob("*.md"), *REPOSITORY.glob("benchmarks/*.md"), *REPOSITORY.glob("docs/*.md")]
    for kind in ("*.py", "*.js", "*.md"):
        pages += [*(REPOSITORY / "studio").rglob(kind), *(REPOSITORY / "models").rglob(kind)]
    assert len(pages) > 200
    claims = {str(path): found[0] for path in pages if (found := CLAIM.search(path.read_text(encoding="utf-8")))}
    assert claims == {}
    for claim in ("Blurring protects reviewers", "A blurred picture keeps you safe", "people are shielded by blur"):
        assert CLAIM.search(claim)
    honest = "Studies disagree on whether blur helps; it is offered, nothing is claimed."
    assert not CLAIM.search(honest)
    assert honest in (REPOSITORY / "README.md").read_text(encoding="utf-8").replace("\n", " ").replace("  ", " ")
    assert honest in care_dialogs().replace("\n", " ")


def test_consents_move_with_their_project(store: Store, project: Project) -> None:
    agree(store, project, "Ann")
    assert [row["reviewer"] for row in store.export_rows(project.id)["consents"]] == ["Ann"]
