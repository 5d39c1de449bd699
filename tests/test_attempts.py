"""Prompt shelves and attempts in a real SQLite file."""

from __future__ import annotations

from dataclasses import replace

import pytest

from studio.records import Attempt, Project, PromptShelf
from studio.store import Store, StoreError


@pytest.fixture
def project(store: Store) -> Project:
    return store.create_project(Project("", "Sword", "sword", "toybox", "toybox"))


def attempt(project: Project, **changes: object) -> Attempt:
    made = Attempt("", project.id, "a king", 7, "DUO", "toybox", "ab" * 32, True, 0.9, "cd" * 32, 20, 4.0)
    return replace(made, **changes)  # type: ignore[arg-type]


def test_a_shelf_comes_back_as_it_went_in(store: Store, project: Project) -> None:
    shelf = store.add_shelf(PromptShelf("", project.id, "Hard ones", "a king\na clown", seed=9, count=3))
    assert store.get_shelf(shelf.id) == shelf == store.list_shelves(project.id)[0]
    assert shelf.created > 0


def test_names_of_shelves_are_unique_in_a_project_only(store: Store, project: Project) -> None:
    other = store.create_project(replace(project, id="", name="Other"))
    first = store.add_shelf(PromptShelf("", project.id, "Hard ones", "a king"))
    second = store.add_shelf(PromptShelf("", project.id, "More", "a king"))
    store.add_shelf(PromptShelf("", other.id, "Hard ones", "a king"))
    with pytest.raises(StoreError, match="'Hard ones' already"):
        store.add_shelf(PromptShelf("", project.id, "Hard ones", "a clown"))
    with pytest.raises(StoreError, match="'Hard ones' already"):
        store.rename_shelf(second.id, "Hard ones")
    assert store.rename_shelf(first.id, "Hard ones").name == "Hard ones"
    assert store.rename_shelf(first.id, "Hardest").name == "Hardest"
    assert [shelf.name for shelf in store.list_shelves(project.id)] == ["Hardest", "More"]


def test_a_removed_shelf_is_gone_and_removed_once(store: Store, project: Project) -> None:
    shelf = store.add_shelf(PromptShelf("", project.id, "Hard ones", "a king"))
    store.remove_shelf(shelf.id)
    store.remove_shelf(shelf.id)
    assert store.list_shelves(project.id) == []


def test_the_same_attempt_counts_once(store: Store, project: Project) -> None:
    first = attempt(project)
    changes = ({"seed": 8}, {"prompt": "a clown"}, {"adapter_sha256": ""}, {"checkpoint": "toybox:oracle"})
    others = [attempt(project, **change) for change in changes]
    kept = store.add_attempts([first, *others, replace(first, model="renamed", found=False)])
    assert [one.id != "" for one in kept] == [True] * 5
    assert store.add_attempts([first]) == []
    assert store.list_attempts(project.id) == kept
    assert kept[0].found is True
    assert store.count_attempts(project.id) == 5
