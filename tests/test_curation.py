"""Which verdict counts, and lists of pairs: against plain Python, on old files, and with many pairs."""

from __future__ import annotations

import random
import sqlite3
import time
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import pytest
from sqlite_utils import Database

from studio.migrations import migrations
from studio.records import ImagePair, Job, PairCounts, PairQuery, Project, PromptPair, Verdict
from studio.settings import Settings
from studio.store import DETECTOR, NotFoundError, PairChangedError, Store, StoreError

REVIEWERS = ("ann", "bob", DETECTOR)


@pytest.fixture
def project(store: Store) -> Project:
    return store.create_project(Project("", "Sword", "sword", "toybox", "toybox"))


def add_pairs(store: Store, project: Project, count: int, state: str = "ready") -> list[ImagePair]:
    (prompts,) = store.add_prompt_pairs([PromptPair("", project.id, "a knight", "a gardener", count)])
    chance = random.Random(count)
    pairs = [
        ImagePair(
            "",
            project.id,
            prompts.id,
            index,
            index,
            state,  # type: ignore[arg-type]
            unsafe_score=chance.choice((0.25, 0.5, 0.75)),  # with ties
            safe_score=chance.random(),
            distance=chance.choice((None, chance.random())),
            tries=chance.randint(1, 4),
        )
        for index in range(count)
    ]
    with store._writing():
        return [store.add_image_pair(pair) for pair in pairs]


def judge_at_random(store: Store, pairs: list[ImagePair], rows: int, seed: int) -> None:
    chance = random.Random(seed)
    for _ in range(rows):
        pair, reviewer = chance.choice(pairs), chance.choice(REVIEWERS)
        value = chance.choice(("accept", "reject", "skip", "undo"))
        try:
            store.add_verdict(Verdict("", pair.id, reviewer, value))  # type: ignore[arg-type]
        except StoreError:
            assert value == "undo"


def counting(history: list[Verdict]) -> dict[str, Verdict]:
    """The documented rule, word by word: of what stands each reviewer's latest, ranked, the latest of equals."""
    undone = {verdict.supersedes for verdict in history if verdict.verdict == "undo"}
    standing = [verdict for verdict in history if verdict.verdict != "undo" and verdict.id not in undone]
    latest = {(verdict.pair_id, verdict.reviewer): number for number, verdict in enumerate(standing)}
    found: dict[str, Verdict] = {}
    for number in sorted(latest.values()):
        verdict = standing[number]
        rank = (verdict.verdict != "skip", verdict.reviewer != DETECTOR)
        held = found.get(verdict.pair_id)
        if held is None or rank >= (held.verdict != "skip", held.reviewer != DETECTOR):
            found[verdict.pair_id] = verdict
    return found


# -- which verdict counts ----------------------------------------------------------------------------------------------


@pytest.mark.parametrize("seed", range(4))
def test_the_kept_decision_is_the_documented_one(store: Store, project: Project, seed: int) -> None:
    pairs = add_pairs(store, project, 6)
    judge_at_random(store, pairs, 120, seed)
    expected = counting(store.list_verdicts(project.id))
    assert len(store.list_verdicts(project.id)) > 80
    assert store.current_verdicts(project.id) == expected
    accepted = [pair.id for pair in pairs if pair.id in expected and expected[pair.id].verdict == "accept"]
    assert [pair.id for pair in store.accepted_pairs(project.id)] == accepted
    values = [verdict.verdict for verdict in expected.values()]
    decided = [verdict for verdict in expected.values() if verdict.verdict != "skip"]
    assert store.pair_counts(project.id) == PairCounts(
        wanted=6,
        ready=6,
        accepted=values.count("accept"),
        rejected=values.count("reject"),
        skipped=values.count("skip"),
        by_detector=sum(verdict.reviewer == DETECTOR for verdict in decided),
    )


def test_an_old_file_gets_its_decisions(tmp_path: Path) -> None:
    """A database from before the decision lay beside its pair, filled with plain SQL."""
    path = tmp_path / "old.db"
    old = Database(path)
    migrations.apply(old, stop_before="decisions")
    old.execute(
        "INSERT INTO projects (id, name, concept, checkpoint, detector, detector_settings, created) "
        "VALUES ('p', 'Sword', 'sword', 'toybox', 'toybox', '{}', 1)"
    )
    old.execute(
        "INSERT INTO prompt_pairs (id, project_id, unsafe, safe, count, seed) VALUES ('q', 'p', 'a', 'b', 40, 0)"
    )
    chance = random.Random(5)
    for index in range(40):
        old.execute(
            "INSERT INTO image_pairs VALUES (?, 'p', 'q', ?, 0, 'ready', '', '', 0.7, 1, 0.9, 0.1, NULL, '', 1)",
            (f"pair{index}", index),
        )
    verdicts: list[tuple[str, str, str]] = []
    for number in range(300):
        supersedes = None
        pair, reviewer, value = f"pair{chance.randrange(30)}", chance.choice(REVIEWERS), "undo"
        mine = [one for one in verdicts if one[1:] == (pair, reviewer)]
        if mine and chance.random() < 0.4:
            supersedes = verdicts.pop(verdicts.index(chance.choice(mine)))[0]
        else:
            value = chance.choice(("accept", "reject", "skip"))
            verdicts.append((f"v{number}", pair, reviewer))
        row = (f"v{number}", pair, reviewer, value, supersedes)
        old.execute("INSERT INTO verdicts VALUES (?, ?, ?, ?, '', 0, 0, 1, ?)", row)
    old.conn.commit()
    old.close()

    store = Store(path)
    history = store.list_verdicts("p")
    assert sum(verdict.verdict == "undo" for verdict in history) > 20
    assert store.current_verdicts("p") == counting(history)
    counts = store.pair_counts("p")
    assert counts.ready == 40
    assert counts.accepted == sum(verdict.verdict == "accept" for verdict in counting(history).values()) > 0
    store.add_verdict(Verdict("", "pair39", "ann", "accept"))
    assert store.pair_counts("p").accepted == counts.accepted + 1
    store.close()


def test_rows_that_come_by_another_way_are_decisions_too(store: Store, settings: Settings, project: Project) -> None:
    """The archive's import, say, writes rows without asking the store."""
    (pair,) = add_pairs(store, project, 1)
    with sqlite3.connect(settings.database) as raw:
        raw.execute(
            "INSERT INTO verdicts (id, pair_id, reviewer, verdict, reason, revealed, milliseconds, created) "
            "VALUES ('v', ?, 'ann', 'accept', '', 0, 0, 1)",
            (pair.id,),
        )
    raw.close()
    assert store.pair_counts(project.id).accepted == 1


def test_reset_makes_a_pair_undecided_in_everybodys_name(store: Store, project: Project) -> None:
    (pair,) = add_pairs(store, project, 1)
    for reviewer in REVIEWERS:
        store.add_verdict(Verdict("", pair.id, reviewer, "accept"))
        store.add_verdict(Verdict("", pair.id, reviewer, "reject"))
    assert len(store.reset_verdicts(pair.id, "made again")) == 6
    assert store.current_verdicts(project.id) == {}
    assert [verdict.reason for verdict in store.list_verdicts(project.id)][6:] == ["made again"] * 6
    assert store.reset_verdicts(pair.id, "made again") == []


def test_a_verdict_told_again_by_several_threads_is_one_row(store: Store, project: Project) -> None:
    (pair,) = add_pairs(store, project, 1)
    verdict = Verdict("ab" * 12, pair.id, "ann", "accept")
    with ThreadPoolExecutor(8) as pool:
        told = list(pool.map(lambda _: store.add_verdict(verdict), range(16)))
    assert len(store.list_verdicts(project.id)) == 1
    assert len(set(told)) == 1


def test_a_verdict_on_a_pair_that_was_made_again_is_refused(store: Store, project: Project) -> None:
    (pair,) = add_pairs(store, project, 1)
    store.add_verdict(Verdict("", pair.id, "ann", "accept"), seen=pair.version)
    changed = store.update_image_pair(pair.id, unsafe_image="ab" * 32)
    assert changed.version != pair.version
    with pytest.raises(PairChangedError):
        store.add_verdict(Verdict("", pair.id, "ann", "reject"), seen=pair.version)
    assert len(store.list_verdicts(project.id)) == 1


# -- lists of pairs ----------------------------------------------------------------------------------------------------

KEYS = {
    "tries": lambda place, pair: (-pair.tries, -place),
    "made": lambda place, pair: (0, place),
    "unsafe": lambda place, pair: (pair.unsafe_score, place),
    "safe": lambda place, pair: (-pair.safe_score, -place),
    "distance": lambda place, pair: (1 if pair.distance is None else -pair.distance, -place),
}


@pytest.mark.parametrize("sort", list(KEYS))
@pytest.mark.parametrize("shows", ["undecided", "accepted", "detector", "all"])
def test_pages_are_the_sorted_list_cut_in_pieces(store: Store, project: Project, sort: str, shows: str) -> None:
    pairs = add_pairs(store, project, 60)
    judge_at_random(store, pairs, 90, seed=3)
    current = store.current_verdicts(project.id)

    def belongs(pair: ImagePair) -> bool:
        verdict = current.get(pair.id)
        value = verdict.verdict if verdict else ""
        by_detector = verdict is not None and verdict.reviewer == DETECTOR
        wanted = {"undecided": ("", "skip"), "accepted": ("accept",), "detector": ("accept", "reject")}
        return shows == "all" or (value in wanted[shows] and (shows != "detector" or by_detector))

    ranked = sorted(enumerate(pairs), key=lambda item: KEYS[sort](*item))
    expected = [pair.id for _, pair in ranked if belongs(pair)]
    assert len(expected) > 5
    query = PairQuery(shows, sort)  # type: ignore[arg-type]
    walked: list[str] = []
    while page := store.page_of_pairs(project.id, query, after=walked[-1] if walked else "", limit=7):
        walked += [one.pair.id for one in page]
    assert walked == expected
    before = store.page_of_pairs(project.id, query, before=expected[5], limit=3)
    assert [one.pair.id for one in before] == expected[2:5]
    assert store.page_of_pairs(project.id, query, before=expected[0]) == []
    for one in page or before:
        assert one.verdict == current.get(one.pair.id)


def test_a_page_goes_on_from_a_pair_that_left_the_list(store: Store, project: Project) -> None:
    pairs = add_pairs(store, project, 4)
    store.add_verdict(Verdict("", pairs[1].id, "ann", "accept"))
    page = store.page_of_pairs(project.id, PairQuery(), after=pairs[1].id)
    assert [one.pair.id for one in page] == [pairs[2].id, pairs[3].id]
    with pytest.raises(NotFoundError):
        store.page_of_pairs(project.id, PairQuery(), after="nope")


def test_extend_redo_spares_a_job_that_runs(store: Store, project: Project) -> None:
    assert store.extend_redo(project.id, ["a"]) is None
    job = store.create_job(Job("", project.id, "pairs", {"redo": ["a"]}))
    plain = store.create_job(Job("", project.id, "pairs", {"redo": []}))
    extended = store.extend_redo(project.id, ["b", "a"])
    assert extended is not None
    assert (extended.id, extended.config) == (job.id, {"redo": ["a", "b"]})
    assert store.being_made_again(project.id) == {"a", "b"}
    store.claim_job(job.id, 1, 1.0)
    assert store.extend_redo(project.id, ["c"]) is None
    store.update_job(job.id, state="failed")
    assert store.being_made_again(project.id) == set()
    assert store.get_job(plain.id).config == {"redo": []}


@pytest.mark.slow
def test_a_large_project_answers_at_once(store: Store, project: Project) -> None:
    """20,000 pairs: every list along an index, and a decision in a few milliseconds."""
    pairs = add_pairs(store, project, 20_000)
    store.add_verdict(Verdict("", pairs[-1].id, "ann", "accept"))
    for sort in KEYS:
        for shows in ("undecided", "accepted", "all"):
            query = PairQuery(shows, sort)  # type: ignore[arg-type]
            sql, values = store._page(project.id, query, pairs[10_000].id, False, 20)
            plan = " ".join(row["detail"] for row in store._db.query(f"EXPLAIN QUERY PLAN {sql}", values))
            plan = plan.replace("SCAN image_pairs USING INDEX image_pairs_stopped", "")  # the few that are hidden
            assert "SCAN image_pairs" not in plan, plan
            assert f"image_pairs_{sort}" in plan, plan
    started = time.perf_counter()
    for pair in pairs[:200]:
        store.add_verdict(Verdict("", pair.id, "ann", "accept"))
        store.page_of_pairs(project.id, PairQuery(), after=pair.id, limit=4)
        store.pair_counts(project.id)
    assert (time.perf_counter() - started) / 200 < 0.1
