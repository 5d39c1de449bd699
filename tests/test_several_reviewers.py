"""Second reviews, disagreements and who settles them, kept counts, and one decision about many pairs."""

from __future__ import annotations

import random
from collections import Counter
from dataclasses import replace

import pytest

from studio.records import CONFLICT, SECOND, BulkAction, ImagePair, PairQuery, Project, Triage, Verdict
from studio.store import DETECTOR, Store, StoreError
from tests.test_curation import add_pairs

PEOPLE = ("ann", "bob", "cem")
OWNER = "olga"


@pytest.fixture
def project(store: Store) -> Project:
    return store.create_project(Project("", "Sword", "sword", "toybox", "toybox", second_share=0.5))


def drawn(pair: ImagePair, share: float) -> bool:
    """The draw, in other words than the database's."""
    return int(pair.id[:4], 16) / 65536 < share


def standing(history: list[Verdict]) -> list[Verdict]:
    undone = {verdict.supersedes for verdict in history if verdict.verdict == "undo"}
    return [verdict for verdict in history if verdict.verdict != "undo" and verdict.id not in undone]


def expected(history: list[Verdict], reviews: int) -> tuple[str, str, str]:
    """Decision, whose, and what one pair waits for, by the documented rule, from its verdicts in their order."""
    voices = list({(v.reviewer, v.settles): v for v in standing(history)}.values())
    order = {verdict.id: number for number, verdict in enumerate(history)}
    people = [v for v in voices if v.verdict != "skip" and v.reviewer != DETECTOR]
    if reviews == 2 and people and not any(v.settles for v in people):
        if len(people) == 1:
            return "", "", SECOND + people[0].reviewer
        if len({v.verdict for v in people}) > 1:
            return "", "", CONFLICT
    voices.sort(key=lambda v: (v.verdict != "skip", v.settles, v.reviewer != DETECTOR, order[v.id]))
    return (voices[-1].verdict, voices[-1].reviewer, "") if voices else ("", "", "")


def rows(store: Store) -> dict[str, tuple[str, str, str, int]]:
    found = store._db.query("SELECT id, decision, decided_by, waits, reviews FROM image_pairs")
    return {row["id"]: (row["decision"], row["decided_by"], row["waits"], row["reviews"]) for row in found}


def check(store: Store, project: Project) -> None:
    """Every kept column and number is what the rows of the verdicts say."""
    history: dict[str, list[Verdict]] = {}
    for verdict in store.list_verdicts(project.id):
        history.setdefault(verdict.pair_id, []).append(verdict)
    for pair_id, (decision, by, waits, reviews) in rows(store).items():
        assert (decision, by, waits) == expected(history.get(pair_id, []), reviews)
    columns = "project_id, state, decision, by_detector, waits, stopped"
    counted = store._db.query(f"SELECT {columns}, count(*) AS number FROM image_pairs GROUP BY {columns}")
    kept = store._db.query(f"SELECT {columns}, number FROM pair_tallies WHERE number != 0")
    assert sorted(map(repr, counted)) == sorted(map(repr, kept))


def judge_at_random(store: Store, pairs: list[ImagePair], steps: int, seed: int) -> None:
    chance = random.Random(seed)
    for _ in range(steps):
        pair, value = chance.choice(pairs), chance.choice(("accept", "reject", "skip", "undo"))
        reviewer = chance.choice((*PEOPLE, DETECTOR, OWNER))
        settles = reviewer == OWNER and value != "undo"
        try:
            store.add_verdict(Verdict("", pair.id, reviewer, value, settles=settles))  # type: ignore[arg-type]
        except StoreError:
            assert settles or value == "undo"


# -- which verdict counts ----------------------------------------------------------------------------------------------


@pytest.mark.parametrize("seed", range(3))
def test_what_counts_is_the_documented_rule(store: Store, project: Project, seed: int) -> None:
    pairs = add_pairs(store, project, 40)
    judge_at_random(store, pairs, 300, seed)
    check(store, project)
    store.update_project(project.id, second_share=1.0)
    check(store, project)
    judge_at_random(store, pairs, 200, seed + 100)
    check(store, project)
    assert {waits[:7] for _, _, waits, _ in rows(store).values()} == {"", "conflic", "second:"}
    store.update_project(project.id, second_share=0.0)
    check(store, project)


def test_two_people_agree(store: Store, project: Project) -> None:
    store.update_project(project.id, second_share=1.0)
    (pair,) = add_pairs(store, project, 1)
    store.add_verdict(Verdict("", pair.id, "ann", "accept"))
    assert store.accepted_pairs(project.id) == []
    assert store.pair_counts(project.id).second == 1
    store.add_verdict(Verdict("", pair.id, "ann", "accept"))  # the same person again is no second review
    assert store.pair_counts(project.id).second == 1
    store.add_verdict(Verdict("", pair.id, "bob", "accept"))
    assert store.accepted_pairs(project.id) == [pair]
    assert [v.blind for v in store.list_verdicts(project.id)] == [True, True, True]


def test_the_owner_settles_a_disagreement(store: Store, project: Project) -> None:
    store.update_project(project.id, second_share=1.0)
    (pair,) = add_pairs(store, project, 1)
    store.add_verdict(Verdict("", pair.id, "ann", "accept"))
    with pytest.raises(StoreError, match="two people disagree"):
        store.add_verdict(Verdict("", pair.id, OWNER, "accept", settles=True))
    store.add_verdict(Verdict("", pair.id, "bob", "reject"))
    counts = store.pair_counts(project.id)
    assert (counts.conflicts, counts.accepted, counts.rejected, counts.undecided) == (1, 0, 0, 1)
    settled = store.add_verdict(Verdict("", pair.id, OWNER, "accept", settles=True))
    assert store.accepted_pairs(project.id) == [pair]
    late = store.add_verdict(Verdict("", pair.id, "bob", "reject"))
    assert (late.blind, store.accepted_pairs(project.id)) == (False, [pair])
    store.add_verdict(Verdict("", pair.id, OWNER, "reject", settles=True))  # on second thoughts
    assert store.pair_counts(project.id).rejected == 1
    store.add_verdict(Verdict("", pair.id, OWNER, "undo"))
    assert store.accepted_pairs(project.id) == [pair]
    store.add_verdict(Verdict("", pair.id, OWNER, "undo", supersedes=settled.id))
    assert store.pair_counts(project.id).conflicts == 1
    with pytest.raises(StoreError, match="'skip'"):
        store.add_verdict(Verdict("", pair.id, OWNER, "skip", settles=True))


def test_the_draw_takes_the_share_and_always_the_same_pairs(store: Store, project: Project) -> None:
    store.update_project(project.id, second_share=0.2)
    pairs = add_pairs(store, project, 2000)
    chosen = {pair_id for pair_id, (*_, reviews) in rows(store).items() if reviews == 2}
    assert chosen == {pair.id for pair in pairs if drawn(pair, 0.2)}
    assert len(chosen) / 2000 == pytest.approx(0.2, abs=0.04)  # over four standard errors
    store.update_project(project.id, second_share=0.5)
    more = {pair_id for pair_id, (*_, reviews) in rows(store).items() if reviews == 2}
    assert chosen < more == {pair.id for pair in pairs if drawn(pair, 0.5)}


def test_another_share_leaves_alone_what_two_people_have_judged(store: Store, project: Project) -> None:
    store.update_project(project.id, second_share=0.0)
    one, two = add_pairs(store, project, 2)
    for reviewer, verdict in (("ann", "accept"), ("bob", "reject")):  # not blind: bob saw and overruled
        store.add_verdict(Verdict("", one.id, reviewer, verdict))  # type: ignore[arg-type]
    store.add_verdict(Verdict("", two.id, "ann", "accept"))
    store.update_project(project.id, second_share=1.0)
    assert [row[:3] for row in rows(store).values()] == [("reject", "bob", ""), ("", "", "second:ann")]
    store.add_verdict(Verdict("", two.id, "bob", "reject"))
    store.update_project(project.id, second_share=0.0)
    assert rows(store)[two.id][2] == CONFLICT


def test_who_has_judged_is_not_asked_again(store: Store, project: Project) -> None:
    store.update_project(project.id, second_share=1.0)
    pairs = add_pairs(store, project, 3)

    def left(viewer: str) -> list[str]:
        query = PairQuery(viewer=viewer)
        page = [one.pair.id for one in store.page_of_pairs(project.id, query)]
        assert store.count_pairs(project.id, query) == len(page)
        return page

    ids = [pair.id for pair in pairs]
    store.add_verdict(Verdict("", ids[0], "ann", "accept"))
    assert (left("ann"), left("bob")) == (ids[1:], ids)
    store.add_verdict(Verdict("", ids[0], "bob", "reject"))
    assert (left("ann"), left("bob"), left("cem")) == (ids[1:], ids[1:], ids[1:])
    (waiting,) = store.page_of_pairs(project.id, PairQuery("conflict", viewer="ann"))
    assert waiting.verdict is None
    assert waiting.own is not None
    assert (waiting.own.verdict, waiting.waits) == ("accept", CONFLICT)


def test_a_second_reviewer_cannot_find_the_first_verdict(store: Store, project: Project) -> None:
    """No list, filter, sort or count tells it."""
    store.update_project(project.id, second_share=1.0)
    one, two = add_pairs(store, project, 2)
    store.add_verdict(Verdict("", one.id, "ann", "accept"))
    store.add_verdict(Verdict("", two.id, "ann", "reject"))
    for shows in ("accepted", "rejected", "detector"):
        assert store.count_pairs(project.id, PairQuery(shows)) == 0  # type: ignore[arg-type]
    assert store.count_pairs(project.id, PairQuery("all", decided_by="ann")) == 0
    for curated in store.page_of_pairs(project.id, PairQuery("all", "verdict", viewer="bob")):
        assert (curated.verdict, curated.own) == (None, None)


# -- many pairs at once ------------------------------------------------------------------------------------------------


def bulk(store: Store, project: Project, name: str = "b", reviewer: str = "ann") -> BulkAction:
    return store.begin_bulk(BulkAction(name, project.id, reviewer, {"words": name}))


def test_one_action_and_one_undo(store: Store, project: Project) -> None:
    store.update_project(project.id, second_share=0.0)
    pairs = add_pairs(store, project, 1500)
    store.add_verdict(Verdict("", pairs[0].id, "bob", "reject"))
    store.add_verdict(Verdict("", pairs[1].id, "ann", "skip"))
    before = rows(store)
    query = PairQuery(viewer="ann", unsafe=(0.5, None))
    matching = store.count_pairs(project.id, query)
    action = bulk(store, project)
    assert store.decide_query(action, "accept", "unsafe score at least 0.5", query) == matching > 900
    check(store, project)
    bulks = [v for v in store.list_verdicts(project.id) if v.bulk_id == "b"]
    by_id = {pair.id: pair for pair in pairs}
    assert all(by_id[v.pair_id].unsafe_score >= 0.5 and v.reviewer == "ann" for v in bulks)
    assert rows(store)[pairs[0].id] == before[pairs[0].id]  # a person's decision is none of "undecided"
    store.add_verdict(Verdict("", bulks[5].pair_id, "ann", "reject"))  # changed by hand since
    assert store.undo_bulk("b") == matching
    assert store.undo_bulk("b") == 0
    check(store, project)
    after = rows(store)
    assert {i for i in after if after[i] != before[i]} == {bulks[5].pair_id}


def test_an_action_told_again_goes_on_and_doubles_nothing(store: Store, project: Project) -> None:
    pairs = add_pairs(store, project, 900)
    query = PairQuery("all")
    action = bulk(store, project)
    part = {pair.id: pair.version for pair in pairs[:100]}
    assert store.decide_pairs(action, "accept", "", part) == 100
    assert store.decide_query(bulk(store, project), "accept", "", query) == 800
    assert store.decide_query(action, "accept", "", query) == 0
    assert store.finish_bulk("b").done
    assert store.bulk_sizes(["b", "c"]) == {"b": {"accept": 900}, "c": {}}
    with pytest.raises(StoreError, match="another action"):
        bulk(store, project, reviewer="bob")
    store.undo_bulk("b")
    assert store.decide_query(action, "accept", "", query) == 0  # what was taken back stays so
    assert store.pair_counts(project.id).accepted == 0
    assert [one.undone for one in store.list_bulk(project.id)] == [True]


def test_pairs_that_were_made_again_are_left_out(store: Store, project: Project) -> None:
    pairs = add_pairs(store, project, 3)
    seen = {pair.id: pair.version for pair in pairs}
    store.update_image_pair(pairs[1].id, safe_image="ab" * 32)
    assert store.decide_pairs(bulk(store, project), "reject", "", seen) == 2
    other = store.create_project(Project("", "Other", "cane", "toybox", "toybox"))
    assert store.decide_pairs(bulk(store, other, "c"), "reject", "", seen) == 0


def test_what_was_made_after_the_preview_is_left_out(store: Store, project: Project) -> None:
    pairs = add_pairs(store, project, 2)
    until = pairs[-1].created
    later = replace(pairs[0], id="", index=7, created=until + 1)
    store.add_image_pair(later)
    query = PairQuery("all", until=until)
    assert store.count_pairs(project.id, query) == 2
    assert store.decide_query(bulk(store, project), "accept", "", query) == 2


# -- triage and filters ------------------------------------------------------------------------------------------------

TRIAGES = (
    Triage(),
    Triage(accept_unsafe=0.5),
    Triage(accept_unsafe=0.5, accept_safe=0.6, accept_distance=0.7),
    Triage(reject_distance=0.4),
    Triage(accept_safe=0.9, reject_unsafe=0.25, reject_safe=0.8, reject_distance=0.9),
)


@pytest.mark.parametrize("triage", TRIAGES)
def test_the_database_proposes_what_the_record_does(store: Store, project: Project, triage: Triage) -> None:
    pairs = add_pairs(store, project, 200)
    proposed = Counter(triage.proposes(pair) for pair in pairs)
    query = PairQuery("all", triage=triage)
    counts = store.count_proposals(project.id, query)
    assert counts == {name: proposed[name] for name in ("accept", "reject", "none")}
    for name in ("accept", "reject", "none"):
        found = {i for _, i in store.pair_ids(project.id, replace(query, proposal=name))}  # type: ignore[arg-type]
        assert found == {pair.id for pair in pairs if triage.proposes(pair) == name}


def test_filters_find_what_they_say(store: Store, project: Project) -> None:
    pairs = add_pairs(store, project, 100)
    store.add_verdict(Verdict("", pairs[3].id, DETECTOR, "accept"))

    def found(**query: object) -> set[str]:
        asked = PairQuery("all", **query)  # type: ignore[arg-type]
        ids = {pair_id for _, pair_id in store.pair_ids(project.id, asked)}
        assert store.count_pairs(project.id, asked) == len(ids)
        assert {one.pair.id for one in store.page_of_pairs(project.id, asked, limit=100)} == ids
        return ids

    def where(test: object) -> set[str]:
        return {pair.id for pair in pairs if test(pair)}  # type: ignore[operator]

    assert found(unsafe=(0.5, None)) == where(lambda p: p.unsafe_score >= 0.5)
    assert found(safe=(0.2, 0.4)) == where(lambda p: 0.2 <= p.safe_score <= 0.4)
    assert found(distance=(None, 0.5)) == where(lambda p: p.distance is not None and p.distance <= 0.5)
    assert found(tries=(2, 3)) == where(lambda p: p.tries in (2, 3))
    assert found(words="KNIGHT") == found(words="garden") == where(lambda p: True)
    assert found(words="pirate") == set()
    assert found(decided_by=DETECTOR) == {pairs[3].id}
    assert store.count_deciders(project.id, PairQuery("all")) == {"": 99, DETECTOR: 1}


@pytest.mark.parametrize("sort", ["unsafe", "tries", "prompt", "verdict", "reviewer", "made"])
@pytest.mark.parametrize("reverse", [False, True])
def test_every_order_can_be_walked(store: Store, project: Project, sort: str, reverse: bool) -> None:
    pairs = add_pairs(store, project, 30)
    judge_at_random(store, pairs, 40, seed=1)
    query = PairQuery("all", sort, reverse=reverse)  # type: ignore[arg-type]
    walked: list[str] = []
    while page := store.page_of_pairs(project.id, query, after=walked[-1] if walked else "", limit=7):
        walked += [one.pair.id for one in page]
    assert sorted(walked) == sorted(pair.id for pair in pairs)
    opposite = replace(query, reverse=not reverse)
    assert [one.pair.id for one in store.page_of_pairs(project.id, opposite)] == walked[::-1]
