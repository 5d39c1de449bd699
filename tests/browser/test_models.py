"""Compare with trained models in Chromium: equal and changed files, many columns, breaking, shelves, links, veils."""

from __future__ import annotations

import hashlib
import json
import re
import time
import zipfile
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from urllib.parse import urlencode

import pytest
import torch
from playwright.sync_api import Page, expect

from models.adapters import attach_lora, detach, lora_delta, save_delta
from studio.records import Checkpoint, Job, Project
from studio.store import Store
from tests.browser.running import RunningStudio, running_studio, tiny_settings, visit
from tests.conftest import make_tiny_bundle

PROMPT = "a king in the forest"
BLURRED, CLEAR = re.compile(r"\?blur$"), re.compile("^blob:")


@dataclass(frozen=True)
class Trained:
    """A page with two projects: one with six models, and one whose pictures are blurred."""

    studio: RunningStudio
    project: str
    blurred: str
    models: dict[str, str]  # name to key
    files: dict[str, Path]

    def link(self, *names: str, project: str = "", **changes: object) -> str:
        """An address that asks for few steps, so that pictures come quickly."""
        models = [self.models.get(name, name) for name in names]
        asked = {"project": project or self.project, "prompt": [PROMPT], "model": models, "steps": 2, "seed": 7}
        return f"{self.studio.url}?{urlencode(asked | changes, doseq=True)}"


@pytest.fixture(scope="module")
def trained(tiny_folder: Path, tmp_path_factory: pytest.TempPathFactory) -> Iterator[Trained]:
    settings = tiny_settings(tmp_path_factory.mktemp("data"), tiny_folder, prewarm=True)
    settings.create_folders()
    store = Store(settings.database)
    blurred = store.create_project(Project("", "Blurred", "sword", "toybox", "toybox", blur=True))
    project = store.create_project(Project("", "Sword", "sword", "toybox", "toybox"))
    job = store.create_job(Job("", project.id, "train", {}))
    store.update_job(job.id, state="done")
    models, files = {}, {}
    for name, seed in (("A", 0), ("A again", 0), ("B", 1), ("Changed", 2)):
        path = files[name] = settings.checkpoints / f"{name}.safetensors"
        sha256 = _save_adapter(path, seed)
        checkpoint = Checkpoint("", project.id, job.id, "duo", name, str(path), sha256, "lora")
        models[name] = store.add_checkpoint(checkpoint).id
    _save_adapter(files["Changed"], 3)
    store.close()
    with running_studio(settings) as studio:
        yield Trained(studio, project.id, blurred.id, models, files)


def _save_adapter(path: Path, seed: int) -> str:
    """A random adapter of the tiny model; the SHA-256 of its file."""
    bundle = make_tiny_bundle()
    generator = torch.Generator().manual_seed(seed)
    for parameter in attach_lora(bundle, rank=2, alpha=2, targets=bundle.family.lora_targets["attention"], seed=seed):
        parameter.data = 0.3 * torch.randn(parameter.shape, generator=generator)
    delta = lora_delta(bundle)
    detach(bundle)
    return save_delta(delta, path)


def open_link(page: Page, address: str, button: str = "Compare") -> None:
    """Open it and wait until the form is filled in from it."""
    visit(page, address)
    expect(page.get_by_text(f"Filled in from the link. Press {button}")).to_be_visible()


def draw(page: Page) -> None:
    page.locator("#duo-go").click()
    expect(page.locator("#duo-tools form")).to_be_visible()
    expect(page.locator("#duo-go")).to_be_visible()


def test_one_adapter_twice_draws_identical_pictures(page: Page, trained: Trained) -> None:
    open_link(page, trained.link("A", "A again", "B"))
    draw(page)
    expect(page.locator(".duo-head h3")).to_have_text(["A", "A again", "B"])
    page.get_by_role("radio", name="Difference").check()
    expect(page.locator("#duo-pictures")).to_contain_text("identical, pixel for pixel")
    page.locator("#duo-right input").click()
    page.get_by_role("option", name="3. B").click()
    expect(page.locator("#duo-pictures")).to_contain_text("of the pixels differ")
    page.wait_for_function("[...document.querySelectorAll('#duo-pictures img')].every(image => image.naturalWidth > 0)")


def test_a_changed_file_is_a_hash_mismatch_and_no_picture(page: Page, trained: Trained, tmp_path: Path) -> None:
    open_link(page, trained.link("Changed", "original"))
    draw(page)
    expect(page.locator(".duo-missing")).to_contain_text("Hash mismatch")
    expect(page.locator("#duo-pictures .duo-cell img")).to_have_count(1)
    with page.expect_download() as download:
        page.get_by_role("button", name="Download grid (ZIP)").click()
    download.value.save_as(tmp_path / "comparison.zip")
    with zipfile.ZipFile(tmp_path / "comparison.zip") as archive:
        assert archive.namelist() == ["grid.png", "comparison.json", "comparison.csv"]
        changed, original = json.loads(archive.read("comparison.json"))["pictures"]
    assert "hash mismatch" in changed["error"]
    assert (original["prompt"], original["seed"], original["steps"]) == (PROMPT, "7", "2")


def test_many_columns_scroll_beside_the_first_one(page: Page, trained: Trained) -> None:
    page.set_viewport_size({"width": 800, "height": 900})
    open_link(page, trained.link("oracle", "original", "A", "A again", "B", "Changed"))
    draw(page)
    expect(page.locator(".duo-head h3")).to_have_count(6)
    heads = page.locator(".duo-head")
    before = [heads.nth(index).bounding_box()["x"] for index in (0, 5)]  # type: ignore[index]
    page.locator("#duo-pictures .duo-scroll").evaluate("region => region.scrollLeft = 300")
    after = [heads.nth(index).bounding_box()["x"] for index in (0, 5)]  # type: ignore[index]
    assert abs(after[0] - before[0]) < 4
    assert after[1] < before[1] - 100
    assert page.evaluate("document.scrollingElement.scrollWidth") <= 800


def test_a_comparison_is_in_the_address_and_comes_back(page: Page, trained: Trained) -> None:
    page.context.grant_permissions(["clipboard-read", "clipboard-write"])
    open_link(page, trained.link("B", "original", seed=9))
    page.get_by_label("Prompts, one a line").fill("a king\na clown")
    draw(page)
    page.get_by_role("radio", name="Slider").check()
    expect(page.locator(".duo-slider")).to_have_count(2)
    page.get_by_role("button", name="Copy link").click()
    expect(page.get_by_text("Copied.")).to_be_visible()
    copied = page.evaluate("navigator.clipboard.readText()")
    assert copied == page.url
    open_link(page, copied)
    expect(page.get_by_label("Prompts, one a line")).to_have_value("a king\na clown")
    expect(page.locator("#duo-seed input")).to_have_value("9")
    expect(page.locator("#duo-pictures img")).to_have_count(0)  # nothing is drawn by itself
    draw(page)
    expect(page.locator(".duo-slider")).to_have_count(2)
    expect(page.locator(".duo-stage span").first).to_have_text("B")


def attempt(page: Page, text: str) -> None:
    """Try a prompt. The page takes none while the last answer is under way, so that it may want a second Enter."""
    prompt = page.get_by_label("Your prompt")
    prompt.fill(text)
    end = time.monotonic() + 60
    while time.monotonic() < end:
        prompt.press("Enter")
        page.wait_for_timeout(1000)
        if page.locator(".duo-prompt q").all_text_contents() == [text]:
            return
    raise AssertionError(f"{text} was not drawn")


def test_attempts_are_counted_once_and_kept_over_a_reload(page: Page, trained: Trained) -> None:
    open_link(page, trained.link("original", "A", mode="break"), "Try it")
    for text, count in (("a hero", 1), ("a hero", 1), ("a queen", 2)):
        attempt(page, text)
        expect(page.locator(".duo-tally-board li b")).to_contain_text([f"of {count}"] * 2)
        expect(page.locator("#duo-go")).to_be_visible()
    before = page.locator(".duo-tally-board li").all_text_contents()
    visit(page, page.url)
    page.get_by_role("radio", name="Break it").check()
    expect(page.locator(".duo-tally-board li")).to_have_text(before)
    expect(page.get_by_text("no measurement")).to_be_visible()
    page.get_by_text("All attempts (2)").click()
    expect(page.locator("#duo-history tbody tr")).to_have_count(2)


COUNT_TAKEN = """() => {
    const compare = window.duoStudio.compare, started = compare.started;
    window.taken = 0;
    compare.started = (values) => { window.taken += 1; return started(values); };
}"""


def ask_for_another(page: Page, first: str, second: str, *keys: str) -> None:
    """Enter a prompt, and a second one while the first is drawn; the keys are pressed before its Enter."""
    prompt = page.get_by_label("Your prompt")
    prompt.fill(first)
    prompt.press("Enter")
    expect(page.locator("#duo-stop-drawing")).to_be_visible()
    prompt.fill(second)
    for key in (*keys, "Enter"):
        prompt.press(key)
    expect(page.get_by_text("Drawn next, as soon as the last one is done.")).to_be_visible()


def test_enter_while_an_attempt_is_drawn_draws_the_next_one_after_it(page: Page, trained: Trained) -> None:
    open_link(page, trained.link("original", mode="break", steps=100, seed=31), "Try it")
    page.evaluate(COUNT_TAKEN)
    ask_for_another(page, "a hero", "a queen")
    expect(page.locator(".duo-prompt q")).to_have_text("a queen")
    expect(page.locator(".duo-next")).to_have_count(0)
    expect(page.locator("#duo-go")).to_be_visible()
    kept = page.locator("#duo-history tbody th")
    expect(kept.nth(0)).to_contain_text("a queen seed 31")
    expect(kept.nth(1)).to_contain_text("a hero seed 31")
    page.wait_for_timeout(1500)
    assert page.evaluate("() => window.taken") == 2


def test_stopping_gives_up_the_attempt_that_waits_too(page: Page, trained: Trained) -> None:
    open_link(page, trained.link("original", "A", "B", "Changed", mode="break", steps=100, seed=32), "Try it")
    ask_for_another(page, "a wizard", "a clown")
    page.locator("#duo-stop-drawing").click()
    expect(page.locator("#duo-go")).to_be_visible()
    expect(page.locator(".duo-next")).to_have_count(0)
    page.wait_for_timeout(1500)
    expect(page.locator("#duo-go")).to_be_visible()
    assert "a clown" not in " ".join(page.locator(".duo-prompt q, #duo-history th").all_text_contents())


def test_an_attempt_that_is_changed_or_refused_waits_no_longer(page: Page, trained: Trained) -> None:
    open_link(page, trained.link("original", "A", "B", mode="break", steps=100, seed=33), "Try it")
    page.evaluate(COUNT_TAKEN)
    ask_for_another(page, "a hero", "a queen", "Shift+Enter")
    prompt = page.get_by_label("Your prompt")
    prompt.press("End")
    prompt.press_sequentially(" of")
    expect(page.locator(".duo-next")).to_have_count(0)
    prompt.fill("")
    prompt.press("Enter")
    expect(page.locator(".duo-next")).to_have_count(0)
    expect(page.locator("#duo-go")).to_be_visible()
    page.wait_for_timeout(1500)
    expect(page.locator(".duo-prompt q")).to_have_text("a hero")
    assert page.evaluate("() => window.taken") == 1


def test_prompts_are_put_on_a_shelf_and_taken_out(page: Page, trained: Trained) -> None:
    open_link(page, trained.link("original", seed=12))
    page.get_by_label("Prompts, one a line").fill("a king\na clown")
    page.get_by_role("button", name="Saved prompts").click()
    page.get_by_label("Name", exact=True).fill("Hard ones")
    page.get_by_role("button", name="Save prompts").click()
    expect(page.get_by_text("Saved as 'Hard ones'.")).to_be_visible()
    page.get_by_role("button", name="Save prompts").click()
    expect(page.get_by_text("There is a shelf named 'Hard ones' already")).to_be_visible()
    open_link(page, trained.link("original"))
    page.get_by_role("button", name="Saved prompts").click()
    page.locator("#duo-shelf input").click()
    page.get_by_role("option", name="Hard ones (2)").click()
    expect(page.get_by_label("Prompts, one a line")).to_have_value("a king\na clown")
    expect(page.locator("#duo-seed input")).to_have_value("12")
    with page.expect_download() as download:
        page.get_by_role("link", name="Export as CSV").click()
    assert Path(download.value.path()).read_text(encoding="utf-8").split() == ["prompt", "a", "king", "a", "clown"]
    page.get_by_role("button", name="Remove").click()
    expect(page.get_by_text("Removed.")).to_be_visible()


def test_a_blurred_picture_is_clear_while_it_is_held(page: Page, trained: Trained) -> None:
    asked: list[tuple[str, bool]] = []
    page.on("request", lambda request: asked.append((request.url, "x-duo-reveal" in request.headers)))
    address = trained.link("original", project=trained.blurred, prompt=["a king", "a clown", "a queen"], count=8)
    open_link(page, address)
    draw(page)
    veil = page.locator("#duo-pictures .duo-veil").first
    image, hold = veil.locator("img"), veil.get_by_role("button")
    expect(image).to_have_attribute("src", BLURRED)
    hold.focus()
    page.keyboard.down(" ")
    expect(image).to_have_attribute("src", CLEAR)
    page.keyboard.up(" ")
    expect(image).to_have_attribute("src", BLURRED)
    hold.hover()
    page.mouse.down()
    expect(image).to_have_attribute("src", CLEAR)
    page.mouse.up()
    expect(image).to_have_attribute("src", BLURRED)
    unseen = page.locator("#duo-pictures .duo-cell:has(.is-gone)")
    expect(unseen.locator(".duo-veil")).to_have_count(0)
    with page.expect_download() as download:
        veil.locator("xpath=..").get_by_role("link").click()
    name = (image.get_attribute("src") or "").split("/")[-1].split(".")[0]
    assert hashlib.sha256(Path(download.value.path()).read_bytes()).hexdigest() == name  # the picture itself
    hidden = {url.split("?")[0] for url, _ in asked if url.endswith("?blur")}
    assert not [url for url, revealing in asked if url in hidden and not revealing]


def test_blurred_sliders_and_differences_are_clear_while_they_are_held(page: Page, trained: Trained) -> None:
    open_link(
        page,
        trained.link("original", "oracle", project=trained.blurred, prompt=["a king", "a clown", "a queen"], count=4),
    )
    draw(page)
    page.get_by_role("radio", name="Slider").check()
    slider = page.locator(".duo-slider:has(.duo-veil)").first
    expect(slider).to_be_visible()
    veiled = slider.locator("img[data-clear]")
    expect(veiled.first).to_have_attribute("src", BLURRED)
    box = slider.locator(".duo-stage").bounding_box()
    assert box is not None
    page.mouse.move(box["x"] + box["width"] * 0.25, box["y"] + 40)
    page.mouse.down()
    expect(veiled.first).to_have_attribute("src", CLEAR)
    page.mouse.move(box["x"] + box["width"] * 0.75, box["y"] + 40)
    expect(slider.get_by_role("slider")).to_have_value("75")  # it follows while the pictures are clear
    expect(veiled.first).to_have_attribute("src", CLEAR)
    page.mouse.up()
    expect(veiled.first).to_have_attribute("src", BLURRED)
    slider.get_by_role("button").focus()
    page.keyboard.down("Enter")
    expect(veiled.last).to_have_attribute("src", CLEAR)
    page.keyboard.up("Enter")
    expect(veiled.last).to_have_attribute("src", BLURRED)
    page.get_by_role("radio", name="Difference").check()
    heat = page.locator('.duo-veil:has(img[data-clear*="differences"])').first
    heat.get_by_role("button").hover()
    page.mouse.down()
    expect(heat.locator("img")).to_have_attribute("src", CLEAR)
    page.mouse.up()
    expect(heat.locator("img")).to_have_attribute("src", BLURRED)
