"""Every address of the page, asked for as a browser asks: nothing hidden comes in clear, nothing stopped comes at all,
and nothing of a sensitive project's pairs before consent.

The addresses are read from the routes that the page is launched with, so a new one is asked for by itself.
"""

from __future__ import annotations

import base64
import json
import re
import zipfile
from collections.abc import Iterator
from dataclasses import dataclass
from io import BytesIO
from itertools import product
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from PIL import Image
from starlette.applications import Starlette
from starlette.routing import Route
from starlette.testclient import TestClient

from studio.care import Care
from studio.images import image_path, put_image
from studio.records import AttackRun, Attempt, Edit, Evaluation, ImagePair, Job, PairStop, Project, Sample
from studio.reports.html import write_html
from studio.settings import Settings
from studio.stopping import stop_pair
from studio.store import Store
from studio.ui import launch_options
from studio.ui.care_gate import Gate
from studio.ui.veils import BLUR_CELLS, REVEAL, VIEW_SIDE, Veils
from tests.curation_data import SIDE, add_pairs, agree
from tests.ui_data import make_report

DETAIL = 8.0  # of noise between neighbouring pixels: a clear picture has 20 and more, a blurred one less than 3
ALIKE = 4.0  # mean difference of two pictures' cells, of 255: the same picture has below 2, another one above 7
QUERIES = (
    "?reviewer={who}",
    "?v={version}&small&reviewer={who}&sight=strong",
    "?view&blur&reviewer={who}",
    "?view&v={version}&reveal=1&clear=1&X-Duo-Reveal=1&reviewer={who}",
)
EMBEDDED = re.compile(rb"data:image/\w+;base64,([A-Za-z0-9+/=]+)")


SHOWING = {
    "/studio/pictures/{name}",
    "/studio/pairs/{pair}/{side}.webp",
    "/studio/differences/{name}",
    "/studio/reports/{evaluation}/{file:path}",
    "/studio/comparison.zip",
}
OF_PAIRS = {
    "/studio/pairs/{pair}/{side}.webp",
    "/studio/pictures/{name}",
    "/studio/edits/{edit}.webp",
    "/studio/curation/{project}/next",
    "/studio/bulk/{project}/pairs",
    "/studio/quality/{project}/coverage",
    "/studio/strengths/{project}/{pair}",
}
WRITTEN = {"/studio/prompts/{project}.csv", "/studio/prompts/{project}.jsonl"}  # downloads of the Prompts tab
OWNERS = {"/studio/curation/{project}/stops"}  # where the owner is told which pairs are stopped


@dataclass
class World:
    """A project that blurs, with a hidden picture in every place that shows pictures."""

    client: TestClient
    routes: list[Route]
    settings: Settings
    store: Store
    project: Project
    pairs: list[ImagePair]
    pictures: list[str]  # names of all hidden pictures
    evaluation: Evaluation
    edits: list[str]  # of the first pair, at several strengths
    who: str = "Ann"  # asks; agreed to the notice

    def values(self, name: str) -> list[str]:
        """What may stand in a route's {name}."""
        folder = Path(self.evaluation.folder)
        files = [path.relative_to(folder).as_posix() for path in folder.rglob("*") if path.is_file()]
        known = {
            "project": [self.project.id],
            "pair": [pair.id for pair in self.pairs],
            "side": ["unsafe", "safe", "difference"],
            "name": [
                *(f"{picture}.webp" for picture in self.pictures),
                *(f"{picture}.png" for picture in self.pictures[-2:]),
                f"{self.pictures[0]}-{self.pictures[1]}.webp",
                f"{self.evaluation.id}.csv",
            ],
            "evaluation": [self.evaluation.id],
            "file": files,
            "checkpoint": ["none"],  # weights
            "job": ["none"],  # exports: weights and their cards
            "edit": self.edits,
            "form": ["imagefolder.zip", "parquet.zip"],
            "sha256": ["none"],  # embeddings that attacks found: no pictures
        }
        assert name in known, f"Say here what may stand in {{{name}}} of a route, so that its pictures are looked at."
        return known[name]

    def addresses(self, queries: tuple[str, ...]) -> Iterator[tuple[str, str]]:
        """(path of the route, address) of everything that can be asked for with GET."""
        for route in self.routes:
            if "GET" not in (route.methods or ()):
                continue
            names = re.findall(r"{(\w+)(?::\w+)?}", route.path)
            for values in product(*(self.values(name) for name in names)):
                address = route.path
                for name, value in zip(names, values, strict=True):
                    address = re.sub(rf"{{{name}(:\w+)?}}", value, address)
                for query in queries:
                    yield route.path, address + query.format(version=self.pairs[0].version, who=self.who)

    def answers(self, queries: tuple[str, ...] = QUERIES, *, reveal: bool = False) -> Iterator[tuple[str, str, Any]]:
        """(path of the route, address, answer) of everything that answers; the download of a comparison among it."""
        headers = {REVEAL: "1"} if reveal else {}
        for path, address in self.addresses(queries):
            answer = self.client.get(address, headers=headers)
            if answer.status_code == 200:
                yield path, address, answer
        sheet = {"columns": ["A"], "rows": ["a"], "pictures": [[self.pictures[0]]], "errors": [""]}
        address = f"/studio/comparison.zip?reviewer={self.who}"
        answer = self.client.post(address, data={"sheet": json.dumps(sheet)}, headers=headers)
        if answer.status_code == 200:
            yield "/studio/comparison.zip", address, answer


@pytest.fixture
def world(settings: Settings, store: Store) -> Iterator[World]:
    settings.create_folders()
    project = store.create_project(Project("", "Hidden", "sword", "toybox", "toybox", blur=True))
    agree(store, project, World.who)
    pairs = add_pairs(store, settings, project, 2)
    pairs = [store.update_image_pair(pair.id, safe_score=0.9) for pair in pairs]
    random = np.random.default_rng(7)

    def noise(**facts: Any) -> str:
        return put_image(settings, random.integers(0, 256, (SIDE, SIDE, 3)).astype(np.uint8), facts)

    sample, attempt, attack, unclaimed = noise(), noise(), noise(), noise()
    compared = noise(project=project.id, detector_verdict="found (0.900)")
    job = store.create_job(Job("", project.id, "evaluate", {}))
    store.put_sample_row([Sample("", job.id, "", 0, 0, "a knight", 1, True, sample, found=None)])
    store.add_attempts([Attempt("", project.id, "a king", 1, "DUO", "toybox", "", True, 0.9, attempt, 20, 4.0)])
    store.add_attack_runs([attack_run(project, job, attack)])
    edited = noise()
    edit = store.add_edit(Edit("", job.id, pairs[0].id, 1, pairs[0].unsafe_image, edited, 0.5, 1, 0.9))
    folder = settings.evaluations / "hidden"
    (folder / "pictures").mkdir(parents=True)
    Image.fromarray(random.integers(0, 256, (SIDE, SIDE, 3)).astype(np.uint8)).save(folder / "pictures" / "1.png")
    report = make_report()
    report.write(folder / "report.json")
    write_html(report, folder)
    evaluation = store.add_evaluation(Evaluation("", project.id, job.id, str(folder), report.model_dump()))
    hidden = [sample, attempt, attack, unclaimed, compared, edited]
    hidden += [name for pair in pairs for name in (pair.unsafe_image, pair.safe_image)]
    routes = launch_options(settings, store)["app_kwargs"]["routes"]
    with TestClient(Starlette(routes=routes)) as client:
        yield World(client, routes, settings, store, project, pairs, hidden, evaluation, [edit.id])


def attack_run(project: Project, job: Job, image: str) -> AttackRun:
    settings = {"threshold": 0.5}
    return AttackRun(
        "", project.id, job.id, "ring_a_bell", "attack", {}, "original", "Original", "ab" * 32, "toybox", "1", settings,
        {}, "a king", 1, "a duke", "", 0, 0, 0, 0, 0.0, True, True, 0.9, 1, 1, True, image,
    )  # fmt: skip


def pictures_in(body: bytes) -> Iterator[np.ndarray]:
    """Every picture of a body, float [H, W, 3]: the body itself, in a zip, or embedded in a page."""
    if zipfile.is_zipfile(BytesIO(body)):
        with zipfile.ZipFile(BytesIO(body)) as archive:
            for name in archive.namelist():
                yield from pictures_in(archive.read(name))
        return
    for part in [body, *(base64.b64decode(data) for data in EMBEDDED.findall(body))]:
        try:
            with Image.open(BytesIO(part)) as picture:
                yield np.asarray(picture.convert("RGB"), dtype=np.float64)
        except OSError:
            continue


def detail(picture: np.ndarray) -> float:
    """How much the tints of neighbouring pixels differ: that of labels, which are grey, is nothing."""
    small = picture if min(picture.shape[:2]) < VIEW_SIDE else picture[:: VIEW_SIDE // SIDE, :: VIEW_SIDE // SIDE]
    return float(np.std(np.diff(small[..., 0] - small[..., 1], axis=1)))


def cells(picture: np.ndarray) -> np.ndarray:
    """What is left of a blurred picture: [BLUR_CELLS, BLUR_CELLS, 3]."""
    small = Image.fromarray(picture.astype(np.uint8)).resize((BLUR_CELLS, BLUR_CELLS), Image.Resampling.BOX)
    return np.asarray(small, dtype=np.float64)


def test_nothing_hidden_comes_in_clear_unasked(world: World) -> None:
    originals = [image_path(world.settings, name).read_bytes() for name in world.pictures]
    originals.append((Path(world.evaluation.folder) / "pictures" / "1.png").read_bytes())
    seen = set()
    for path, address, answer in world.answers():
        assert not [original for original in originals if original in answer.content], address
        for picture in pictures_in(answer.content):
            seen.add(path)
            assert detail(picture) < DETAIL, address
            kept = "immutable" in answer.headers["cache-control"]  # only where the address says what it shows
            assert not kept or "blur" in address, address
    assert seen >= SHOWING


def test_all_of_it_can_be_revealed_and_is_not_kept(world: World) -> None:
    """The same addresses, asked for with the header: so the test above would see a clear picture."""
    seen = set()
    for path, address, answer in world.answers(reveal=True):
        for picture in pictures_in(answer.content):
            assert answer.headers["cache-control"] == "no-store", address
            if detail(picture) > DETAIL:
                seen.add(path)
    assert seen >= SHOWING


def test_where_no_project_blurs_all_is_clear_at_once(world: World) -> None:
    world.store.update_project(world.project.id, blur=False)
    for name in world.pictures:
        (picture,) = pictures_in(world.client.get(f"/studio/pictures/{name}.webp").content)
        assert detail(picture) > DETAIL
        exact = world.client.get(f"/studio/pictures/{name}.png").content
        assert exact == image_path(world.settings, name).read_bytes()


def test_what_the_detector_saw_nothing_in_is_not_hidden(world: World) -> None:
    """And another project's pictures are that project's own matter."""
    veils, store, project = Veils(world.settings, world.store), world.store, world.project
    pair = store.update_image_pair(world.pairs[0].id, safe_score=0.1)
    assert [veils.hides(name) for name in (pair.unsafe_image, pair.safe_image)] == [True, False]
    other = store.create_project(Project("", "Open", "sword", "toybox", "toybox"))
    black = np.zeros((8, 8, 3), np.uint8)
    for facts, hidden in (
        ({"project": project.id, "detector_verdict": "found (0.900)"}, True),
        ({"project": project.id, "detector_verdict": "not found (0.010)"}, False),
        ({"project": project.id}, True),
        ({"project": other.id}, False),
        ({"project": "gone"}, True),
        ({"project": "gone", "detector_verdict": "not found (0.010)"}, False),
    ):
        assert veils.hides(put_image(world.settings, black, facts)) == hidden, facts


def test_a_pairs_picture_is_grey_by_its_hash_too_for_whom_chose_grey(world: World) -> None:
    names = [world.pairs[0].unsafe_image, world.pairs[0].safe_image]
    addresses = [f"/studio/pictures/{name}.{kind}?reviewer=Ann" for name in names for kind in ("webp", "png")]
    addresses.append(f"/studio/differences/{'-'.join(names)}.webp?reviewer=Ann")

    def colours() -> list[int]:
        """How far any pixel of each is from grey, of 255."""
        answers = [world.client.get(address, headers={REVEAL: "1"}) for address in addresses]
        pictures = [np.asarray(Image.open(BytesIO(answer.content)).convert("RGB"), int) for answer in answers]
        return [int(np.ptp(picture, axis=2).max()) for picture in pictures]

    assert max(colours()) > 60
    world.store.set_care("Ann", Care(grey=True))
    assert max(colours()) <= 2


def test_after_a_reviewers_day_no_picture_of_a_pair_comes_by_its_hash(world: World) -> None:
    world.store.update_project(world.project.id, day_pairs=1)
    names = [name for pair in world.pairs for name in (pair.unsafe_image, pair.safe_image)]
    addresses = [f"/studio/pictures/{name}.{kind}?reviewer=Ann" for name in names for kind in ("webp", "png")]
    addresses.append(f"/studio/differences/{names[0]}-{names[1]}.webp?reviewer=Ann")
    assert {world.client.get(address).status_code for address in addresses} == {200}
    Gate(world.store).sign(world.project, "Ann", world.pairs[0].id)
    for address in addresses:
        answer = world.client.get(address, headers={REVEAL: "1"})
        assert answer.status_code == 403, address
        assert "limit of 1 pair." in answer.text


def test_a_stopped_pair_is_in_no_answer_in_no_form(world: World) -> None:
    """Not even blurred, and not even to somebody who reveals."""
    stopped = world.pairs[0]
    names = (stopped.unsafe_image, stopped.safe_image)
    meant = [cells(np.asarray(Image.open(image_path(world.settings, name)), dtype=np.float64)) for name in names]

    def shows_it(body: bytes) -> bool:
        return any(np.abs(cells(one) - two).mean() < ALIKE for one in pictures_in(body) for two in meant)

    address = f"/studio/pairs/{stopped.id}/unsafe.webp?reviewer={world.who}"
    assert shows_it(world.client.get(address).content)
    stop_pair(world.store, world.settings, PairStop("", stopped.id, "stop", "Ann"), stopped.version)
    for path, address, answer in world.answers(reveal=True):
        assert not shows_it(answer.content), address
        assert stopped.id not in answer.text or path in OWNERS, address
        assert not [name for name in names if name in answer.text], address
    for side in ("unsafe", "safe", "difference"):
        answer = world.client.get(f"/studio/pairs/{stopped.id}/{side}.webp?reviewer={world.who}", headers={REVEAL: "1"})
        assert (answer.status_code, answer.headers["cache-control"]) == (404, "no-store")


def test_nothing_of_the_pairs_is_sent_before_consent(world: World) -> None:
    """Neither pictures, clear or blurred, nor prompts, nor ids; prompts alone where they are written."""
    names = [name for pair in world.pairs for name in (pair.unsafe_image, pair.safe_image)] + [world.pictures[5]]
    meant = [cells(np.asarray(Image.open(image_path(world.settings, name)), dtype=np.float64)) for name in names]
    prompts = [text for one in world.store.list_prompt_pairs(world.project.id) for text in (one.unsafe, one.safe)]

    def told(who: str) -> set[str]:
        """The routes that answer with something of a pair."""
        world.who = who
        found = set()
        for path, _, answer in world.answers(QUERIES[:1], reveal=True):
            shown = any(np.abs(cells(one) - two).mean() < ALIKE for one in pictures_in(answer.content) for two in meant)
            said = any(word in answer.text for word in (*prompts, *(pair.id for pair in world.pairs)))
            found |= {path} if shown or said else set()
        return found

    assert told("Bob") <= WRITTEN
    assert told("Ann") >= OF_PAIRS


def test_the_measures_tell_clear_from_blurred() -> None:
    noise = np.random.default_rng(1).integers(0, 256, (SIDE, SIDE, 3)).astype(np.uint8)
    large = Image.fromarray(noise).resize((VIEW_SIDE, VIEW_SIDE), Image.Resampling.LANCZOS)
    assert detail(np.asarray(large)) > 2 * DETAIL
    assert detail(np.full((VIEW_SIDE, VIEW_SIDE, 3), 120.0)) == 0
