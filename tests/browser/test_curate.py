"""Curation in Chromium: every key, the undo chain, a reload, two people at once, a server that dies in the middle."""

from __future__ import annotations

import re
from collections.abc import Iterator
from pathlib import Path

import pytest
from playwright.sync_api import Browser, Page, expect

from studio.records import ImagePair, PromptPair, Verdict
from tests.browser.axe import axe_problems
from tests.browser.curating import PAIRS, Bench, Finger, in_hand, said, saved, see
from tests.browser.running import running_studio, tiny_settings


@pytest.fixture(scope="module")
def bench(tiny_folder: Path, tmp_path_factory: pytest.TempPathFactory) -> Iterator[Bench]:
    settings = tiny_settings(tmp_path_factory.mktemp("data"), tiny_folder)
    with running_studio(settings) as studio:
        bench = Bench(studio)
        yield bench
        bench.store.close()


def test_every_key_decides_and_undo_goes_back_through_all(bench: Bench, page: Page) -> None:
    project, pairs = bench.project("Keys")
    bench.open(page, project)
    see(page, pairs[0])
    expect(page.locator('[data-is="progress"]')).to_contain_text("0 of 12 decided")
    for pair, key, words in zip(
        pairs, "arsd1", ("Accepted", "Rejected", "Skipped", "made again", "concept still there"), strict=False
    ):
        see(page, pair)
        page.keyboard.press(key)
        said(page, words)
        page.wait_for_timeout(1600 if key == "r" else 0)  # so that 1 is not the reason of R's rejection
    see(page, pairs[5])
    page.keyboard.press("r")
    page.keyboard.press("2")
    said(page, "Rejected: too different")
    see(page, pairs[6])
    saved(bench, page, project, 6)
    assert bench.verdicts(project) == [
        ("accept", ""),
        ("reject", ""),
        ("skip", ""),
        ("reject", "concept still there"),
        ("reject", ""),
        ("reject", "too different"),
    ]
    expect(page.locator('[data-is="progress"]')).to_contain_text("4 of 12 decided")
    for pair in (pairs[5], pairs[4], pairs[2], pairs[1], pairs[0]):
        page.keyboard.press("u")
        see(page, pair)
    page.keyboard.press("u")
    said(page, "There is no decision of yours")
    saved(bench, page, project, 12)
    assert bench.store.current_verdicts(project.id) == {}
    page.keyboard.press("a")
    see(page, pairs[1])  # on the way back through what was undone
    (job,) = bench.store.list_jobs(project.id)
    assert job.config["redo"] == [pairs[3].id]


def test_looking_keys(bench: Bench, page: Page) -> None:
    project, pairs = bench.project("Looking")
    bench.open(page, project)
    see(page, pairs[0])
    stage = page.locator(".cur-stage")
    left, right = (stage.locator(f'[data-place="{place}"]') for place in ("left", "right"))
    for key in ("f", "Space"):
        expect(left.locator("img.of-unsafe")).to_be_visible()
        expect(left.locator("img.of-safe")).to_be_hidden()
        page.keyboard.down(key)
        expect(left.locator("img.of-safe")).to_be_visible()
        expect(right.locator("img.of-unsafe")).to_be_visible()
        expect(left.get_by_text("Safe twin")).to_be_visible()
        page.keyboard.up(key)
    for zoom in ("2", "4", "1"):
        page.keyboard.press("z")
        assert stage.evaluate("stage => stage.style.getPropertyValue('--zoom')") == zoom
        if zoom == "2":
            page.keyboard.press("Shift+ArrowRight")
            page.keyboard.press("Shift+ArrowDown")
            moved = "stage => ['--x', '--y'].map((name) => stage.style.getPropertyValue(name))"
            assert stage.evaluate(moved) == ["-25%", "-25%"]
    page.keyboard.press("ArrowRight")
    see(page, pairs[1])
    page.keyboard.press("ArrowRight")
    see(page, pairs[2])
    page.keyboard.press("ArrowLeft")
    see(page, pairs[1])
    page.keyboard.press("?")
    expect(page.get_by_role("dialog")).to_contain_text("Take the last decision back")
    page.keyboard.press("a")  # decides nothing under the dialog
    page.keyboard.press("Escape")
    expect(page.get_by_role("dialog")).to_be_hidden()
    assert bench.verdicts(project) == []
    page.get_by_label("Your name").fill("Ada a r s")  # letters in a field are no keys
    page.get_by_label("Your name").press("Tab")
    page.locator(".cur-stage").focus()
    page.keyboard.press("a")
    saved(bench, page, project, 1)
    assert bench.store.list_verdicts(project.id)[0].reviewer == "Ada a r s"


def visibility(page: Page, place: str, picture: str) -> str:
    """Whether a picture of the stage is seen: "visible" or "hidden"."""
    image = page.locator(f'.cur-stage [data-place="{place}"] img.of-{picture}')
    found = image.evaluate_all("all => all.map((one) => one.offsetParent && getComputedStyle(one).visibility)")
    return str(found[0]) if found else "hidden"


def seen(page: Page) -> set[str]:
    """Which pictures the stage shows, and where."""
    places = [(place, one) for place in ("left", "right") for one in ("unsafe", "safe", "difference")]
    return {f"{place} {one}" for place, one in places if visibility(page, place, one) == "visible"}


def test_four_views_at_one_place_and_zoom(bench: Bench, page: Page) -> None:
    project, pairs = bench.project("Views")
    bench.open(page, project)
    see(page, pairs[0])
    stage = page.locator(".cur-stage")
    page.keyboard.press("z")
    page.keyboard.press("Shift+ArrowLeft")
    place = stage.get_attribute("style")
    flipped = {"left safe", "right unsafe"}
    assert (seen(page), stage.get_attribute("data-view")) == ({"left unsafe", "right safe"}, "side")
    for view, shown, held in (
        ("one", {"left unsafe"}, {"left safe"}),
        ("slider", {"left unsafe", "left safe"}, {"left safe"}),
        ("difference", {"left unsafe", "right difference"}, {"left safe", "right difference"}),
        ("side", {"left unsafe", "right safe"}, flipped),
    ):
        page.keyboard.press("w")
        expect(page.locator(f'[data-view-as="{view}"]')).to_have_attribute("aria-pressed", "true")
        assert (seen(page), stage.get_attribute("style")) == (shown, place)
        page.keyboard.down("f")
        assert seen(page) == held
        page.keyboard.up("f")
    page.get_by_role("button", name="Difference").click()
    drawn = page.locator("img.of-difference")
    expect(drawn).to_have_js_property("naturalWidth", 320)
    page.keyboard.press("a")
    see(page, pairs[1])
    expect(drawn).to_have_attribute("src", re.compile(f"{pairs[1].id}/difference"))
    bench.open(page, project)  # the view is this browser's own
    expect(page.locator('.cur-stage[data-view="difference"]')).to_be_visible()


def test_the_slider_is_dragged_and_its_edge_stays_where_it_is(bench: Bench, page: Page) -> None:
    project, pairs = bench.project("Slider")
    bench.open(page, project)
    see(page, pairs[0])
    page.get_by_role("button", name="Slider").click()
    edge = page.get_by_role("slider", name="Edge between")
    frame = page.locator('[data-place="left"] .cur-frame')
    box = frame.bounding_box()
    assert box is not None
    page.mouse.move(box["x"] + 10, box["y"] + 50)
    page.mouse.down()
    page.mouse.move(box["x"] + box["width"] * 0.25, box["y"] + 50)
    page.mouse.up()
    expect(edge).to_have_value("25")
    # Left of the edge is the unsafe picture in every zoom: the clip of the other one is where the frame's edge is.
    where = """() => {
        const image = document.querySelector('[data-place="left"] img.of-safe');
        const [side, box] = [image.offsetWidth, image.getBoundingClientRect()];
        const inset = getComputedStyle(image).clipPath.match(/inset\\(0px 0px 0px (.*)\\)/)[1];
        const probe = document.createElement('div');
        probe.style.cssText = `position: absolute; visibility: hidden; margin-left: ${inset}`;
        image.parentElement.append(probe);
        const left = parseFloat(getComputedStyle(probe).marginLeft) / side;
        probe.remove();
        const frame = image.parentElement.getBoundingClientRect();
        return (box.left + left * box.width - frame.left) / frame.width;
    }"""
    for _ in range(3):
        assert abs(page.evaluate(where) - 0.25) < 0.01
        page.keyboard.press("z")
        page.keyboard.press("Shift+ArrowRight")
    edge.focus()
    page.keyboard.press("ArrowRight")
    expect(edge).to_have_value("26")
    page.keyboard.press("a")  # letters decide also while the slider has the focus
    see(page, pairs[1])


def test_keys_can_be_changed_and_stay_changed(bench: Bench, page: Page) -> None:
    project, pairs = bench.project("Own keys")
    bench.open(page, project)
    see(page, pairs[0])
    page.keyboard.press("?")
    keys = page.get_by_role("dialog", name="Keys")
    keys.get_by_role("button", name="Change the key of Accept").click()
    page.keyboard.press("?")
    expect(keys).to_contain_text("That key cannot be used")
    page.keyboard.press("s")  # that of Skip, which gets the former one
    expect(keys).to_contain_text("Accept is now S, and Skip is now A.")
    keys.get_by_role("button", name="Change the key of Undo").click()
    page.keyboard.press("Escape")
    expect(keys).to_contain_text("Nothing changed.")
    expect(keys).to_be_visible()
    keys.get_by_role("button", name="Change the key of Forward").click()
    page.keyboard.press("ArrowDown")
    expect(keys).to_contain_text("Forward is now ↓.")
    keys.get_by_role("button", name="Close").click()
    expect(page.get_by_role("button", name="Accept S")).to_have_attribute("aria-keyshortcuts", "S")
    bench.open(page, project)
    see(page, pairs[0])
    page.keyboard.press("s")
    see(page, pairs[1])
    page.keyboard.press("a")
    see(page, pairs[2])
    page.keyboard.press("ArrowDown")
    see(page, pairs[3])
    saved(bench, page, project, 2)
    assert [verdict for verdict, _ in bench.verdicts(project)] == ["accept", "skip"]
    page.keyboard.press("?")
    keys.get_by_role("button", name="All as at first").click()
    keys.get_by_role("button", name="Close").click()
    expect(page.get_by_role("button", name="Accept A")).to_be_visible()


def test_going_on_by_hand(bench: Bench, page: Page) -> None:
    project, pairs = bench.project("By hand")
    bench.open(page, project)
    see(page, pairs[0])
    page.get_by_label("go on by itself").uncheck()
    page.keyboard.press("r")
    page.keyboard.press("1")
    expect(page.locator('[data-is="decision"]')).to_contain_text("Rejected by you, just now: concept still there")
    page.keyboard.press("u")
    expect(page.locator('[data-is="decision"]')).to_contain_text("Not decided yet")
    page.keyboard.press("a")
    saved(bench, page, project, 5)  # reject, its reason, an undo of each, accept
    bench.open(page, project)
    see(page, pairs[0])  # still the same, though it is decided
    page.keyboard.press("ArrowRight")
    see(page, pairs[1])


def test_what_comes_is_told_to_those_who_hear_it(bench: Bench, page: Page) -> None:
    project, pairs = bench.project("Heard")
    bench.open(page, project)
    see(page, pairs[0])
    told = page.locator('[data-is="told"]')
    expect(told).to_have_attribute("aria-live", "polite")
    expect(told).to_have_text(
        "Unsafe: a knight on the beach, sword 0.60. Safe twin: a gardener on the beach, no sword 0.00. Not decided yet."
    )
    page.keyboard.press("a")
    expect(told).to_contain_text("Unsafe: a pirate at night")
    expect(page.get_by_role("img", name="Unsafe picture: a pirate at night").first).to_be_visible()
    expect(page.get_by_role("img", name="Safe twin: a sailor at night").last).to_be_visible()


def test_a_mouse_is_enough(bench: Bench, page: Page) -> None:
    project, pairs = bench.project("Mouse")
    bench.open(page, project)
    see(page, pairs[0])
    expect(page.locator(".cur-thumb")).to_have_count(PAIRS)
    page.get_by_role("button", name="Accept A").click()
    see(page, pairs[1])
    page.keyboard.press("Space")  # the button does not keep the focus: Space flips, it does not accept again
    page.get_by_role("button", name="3 broken picture").click()
    see(page, pairs[2])
    page.get_by_role("button", name="Undo U").click()
    see(page, pairs[1])
    frame = page.locator('[data-place="left"] .cur-frame')
    box = frame.bounding_box()
    assert box is not None
    page.mouse.move(box["x"] + 50, box["y"] + 50)
    page.mouse.down()
    expect(frame.locator("img.of-safe")).to_be_visible()
    page.mouse.up()
    expect(frame.locator("img.of-safe")).to_be_hidden()
    page.locator(".cur-thumb").nth(7).click()
    see(page, pairs[7])
    page.get_by_role("button", name="Only this prompt").click()
    expect(page.locator(".cur-thumb")).to_have_count(PAIRS // 2)
    page.get_by_role("button", name="Only this prompt").click()
    page.locator('[data-is="shows"]').select_option("Accepted")
    expect(page.locator(".cur-thumb")).to_have_count(1)
    see(page, pairs[0])
    page.locator('[data-is="shows"]').select_option("Rejected")
    expect(page.get_by_text("No pairs in this list")).to_be_visible()
    page.get_by_role("button", name="look at all pairs").click()
    page.locator('[data-is="sort"]').select_option("Safe score, highest first")
    see(page, pairs[-1])


def test_a_reload_in_the_middle_goes_on_where_it_was(bench: Bench, page: Page) -> None:
    project, pairs = bench.project("Reload")
    bench.open(page, project)
    for pair in pairs[:3]:
        see(page, pair)
        page.keyboard.press("a")
    see(page, pairs[3])
    saved(bench, page, project, 3)
    bench.open(page, project)
    see(page, pairs[3])
    expect(page.locator('[data-is="progress"]')).to_contain_text("3 of 12 decided")
    page.keyboard.press("u")  # the chain is still there
    see(page, pairs[2])
    saved(bench, page, project, 4)


def test_two_people_on_one_project(bench: Bench, browser: Browser, page: Page) -> None:
    project, pairs = bench.project("Two", 6)
    other = browser.new_page(viewport={"width": 1280, "height": 900})
    other.set_default_timeout(60_000)
    bench.open(page, project)
    see(page, pairs[0])
    bench.open(other, project)
    expect(other.locator(".cur-stage:not(.is-loading)")).to_be_visible()
    assert in_hand(other) != pairs[0].id  # each its own work
    other.get_by_label("Your name").fill("Bob")
    other.locator(f'.cur-thumb[data-pair="{pairs[0].id}"]').click()
    see(other, pairs[0])
    other.keyboard.press("r")
    expect(page.locator('[data-is="decision"]')).to_contain_text("Rejected by Bob")
    expect(page.locator('[data-is="progress"]')).to_contain_text("1 of 6 decided")
    page.keyboard.press("ArrowRight")  # Bob has decided on this one
    for done in range(1, 6):  # the last ones are those in Bob's hands: rather twice than never
        expect(page.locator('[data-is="progress"]')).to_contain_text(f"{done} of 6 decided")
        assert in_hand(page) not in bench.store.current_verdicts(project.id)
        page.keyboard.press("a")
    expect(page.get_by_text("All 6 pairs are decided")).to_be_visible()
    expect(other.locator('[data-is="progress"]')).to_contain_text("6 of 6 decided")
    assert sorted(pair for pair in bench.store.current_verdicts(project.id)) == sorted(pair.id for pair in pairs)
    assert len(bench.verdicts(project)) == 6
    other.close()


def test_blurred_pictures_reveal_while_held(bench: Bench, page: Page) -> None:
    project, pairs = bench.project("Blur", 4, blur=True)
    asked: list[tuple[str, bool]] = []
    page.on("request", lambda request: asked.append((request.url, "x-duo-reveal" in request.headers)))
    bench.open(page, project)
    see(page, pairs[0])
    picture = page.locator('[data-place="left"] img.of-unsafe')
    hidden = picture.get_attribute("src") or ""
    assert hidden.endswith("&blur")
    page.keyboard.down("v")
    expect(page.locator(".cur-stage.is-revealed")).to_be_visible()
    assert (picture.get_attribute("src") or "").startswith("blob:")
    page.keyboard.up("v")
    expect(page.locator(".cur-stage.is-revealed")).to_be_hidden()
    assert picture.get_attribute("src") == hidden
    page.keyboard.press("a")
    see(page, pairs[1])
    page.keyboard.press("a")
    see(page, pairs[2])
    box = page.locator('[data-place="left"] .cur-frame').bounding_box()
    assert box is not None
    page.mouse.move(box["x"] + 40, box["y"] + 40)
    page.mouse.down()
    expect(page.locator(".cur-stage.is-revealed")).to_be_visible()
    page.mouse.up()
    expect(page.locator(".cur-stage.is-revealed")).to_be_hidden()
    page.keyboard.press("a")
    saved(bench, page, project, 3)
    assert [verdict.revealed for verdict in bench.store.list_verdicts(project.id)] == [True, False, True]
    clear = {url for url, revealing in asked if revealing}
    assert {url.split("/pairs/")[1].split("/")[0] for url in clear} == {pairs[0].id, pairs[2].id}
    assert not [url for url, _ in asked if "/studio/pictures/" in url]


def test_every_view_reveals_while_held(bench: Bench, page: Page) -> None:
    project, pairs = bench.project("Blurred views", 2, blur=True)
    bench.open(page, project)
    see(page, pairs[0])
    for view, shown in (("one", "unsafe"), ("slider", "unsafe"), ("difference", "difference")):
        page.locator(f'[data-view-as="{view}"]').click()
        picture = page.locator(f"img.of-{shown}").first
        expect(picture).to_have_attribute("src", re.compile("&blur$"))
        box = page.locator(".cur-frame").nth(1 if shown == "difference" else 0).bounding_box()
        assert box is not None
        page.mouse.move(box["x"] + 0.1 * box["width"], box["y"] + 40)
        page.mouse.down()
        expect(picture).to_have_attribute("src", re.compile("^blob:"))
        page.mouse.move(box["x"] + 0.8 * box["width"], box["y"] + 40)
        if view == "slider":
            expect(page.get_by_role("slider", name="Edge between")).to_have_value("80")
        page.mouse.up()
        expect(picture).to_have_attribute("src", re.compile("&blur$"))
        page.keyboard.down("v")
        expect(picture).to_have_attribute("src", re.compile("^blob:"))
        page.keyboard.up("v")
        expect(picture).to_have_attribute("src", re.compile("&blur$"))


def test_what_the_detector_decided_and_what_failed(bench: Bench, page: Page) -> None:
    project, pairs = bench.project("Detector", 3)
    for pair in pairs:
        bench.store.add_verdict(Verdict("", pair.id, "detector", "accept"))
    (prompts,) = bench.store.add_prompt_pairs([PromptPair("", project.id, "a king", "a cook")])
    bench.store.add_image_pair(
        ImagePair("", project.id, prompts.id, 0, 1, "failed", reason="In 6 tries none was clear.")
    )
    bench.open(page, project)
    see(page, pairs[0])
    expect(page.locator('[data-is="shows"]')).to_have_value("detector")
    expect(page.locator('[data-is="decision"]')).to_contain_text("by the detector alone")
    page.keyboard.press("r")
    see(page, pairs[1])
    saved(bench, page, project, 4)
    assert bench.store.pair_counts(project.id).rejected == 1
    page.get_by_text("1 failed pair").click()
    expect(page.locator(".cur-failed li")).to_contain_text("In 6 tries none was clear.")
    page.get_by_role("button", name="Try again").click()
    expect(page.locator(".cur-failed li")).to_contain_text("Waiting to be made again")


def test_a_killed_server_loses_and_doubles_nothing(browser: Browser, tiny_folder: Path, tmp_path: Path) -> None:
    settings = tiny_settings(tmp_path / "data", tiny_folder)
    visitor = browser.new_page(viewport={"width": 1280, "height": 900})
    visitor.set_default_timeout(60_000)
    with running_studio(settings) as studio:
        bench = Bench(studio)
        project, pairs = bench.project("Killed", 8)
        bench.open(visitor, project)
        see(visitor, pairs[0])
        visitor.keyboard.press("a")
        see(visitor, pairs[1])
        saved(bench, visitor, project, 1)
        visitor.wait_for_timeout(300)
        studio.process.kill()
        studio.process.wait()
        visitor.keyboard.press("r")
        see(visitor, pairs[2])  # it was fetched ahead
        visitor.keyboard.press("a")
        visitor.keyboard.press("u")
        visitor.keyboard.press("s")
        expect(visitor.locator('[data-is="unsaved"]')).to_contain_text("4 decisions not saved yet")
        assert bench.verdicts(project) == [("accept", "")]
        port = int(studio.url.rstrip("/").rsplit(":", 1)[1])
    with running_studio(settings, port):
        expect(visitor.locator('[data-is="unsaved"]')).to_be_hidden()
        saved(bench, visitor, project, 5)
        told = [(verdict.pair_id, verdict.verdict) for verdict in bench.store.list_verdicts(project.id)]
        expected = zip((0, 1, 2, 2, 2), ("accept", "reject", "accept", "undo", "skip"), strict=True)
        assert told == [(pairs[number].id, verdict) for number, verdict in expected]
    bench.store.close()
    visitor.close()


def test_it_fits_a_phone_and_stays_in_place(bench: Bench, page: Page) -> None:
    project, pairs = bench.project("Phone", 6)
    page.set_viewport_size({"width": 390, "height": 844})
    bench.open(page, project)
    see(page, pairs[0])
    assert page.evaluate("document.scrollingElement.scrollWidth") <= 390
    small = """() => [...document.querySelectorAll('.duo-curate button, .duo-curate select, .duo-curate input')]
        .map((one) => one.closest('label.cur-check') || one)
        .filter((one) => one.offsetParent && one.getBoundingClientRect().height < 44).map((one) => one.outerHTML)"""
    assert page.evaluate(small) == []
    places = "() => [...document.querySelectorAll('.cur-frame, .cur-actions, .cur-facts')].map((one) => one.offsetTop)"
    page.locator(".cur-facts").scroll_into_view_if_needed()  # the actions stick to the screen while they are below it
    before = page.evaluate(places)
    page.get_by_role("button", name="Accept").click()
    see(page, pairs[1])
    assert page.evaluate(places) == before


@pytest.fixture
def phone(browser: Browser) -> Iterator[Page]:
    context = browser.new_context(viewport={"width": 390, "height": 844}, has_touch=True, is_mobile=True)
    visitor = context.new_page()
    visitor.set_default_timeout(60_000)
    yield visitor
    context.close()


def test_a_finger_decides_flips_and_reveals(bench: Bench, phone: Page) -> None:
    project, pairs = bench.project("Finger")
    bench.open(phone, project)
    see(phone, pairs[0])
    expect(phone.get_by_text("Swipe right: accept, left: reject, up: skip.")).to_be_visible()
    finger = Finger(phone)
    for (x, y), words, pair in zip(
        ((120, 10), (-120, -10), (5, -120)), ("Accepted", "Rejected", "Skipped"), pairs[1:], strict=False
    ):
        finger.swipe(x, y)
        said(phone, words)
        see(phone, pair)
    finger.swipe(40, 0)  # too short
    finger.at("touchStart")
    finger.at("touchMove", 120, 0)
    expect(phone.locator(".cur-swipe")).to_have_text("Accept")
    finger.at("touchMove", 5, 0)  # back again: nothing is decided
    finger.at("touchEnd")
    see(phone, pairs[3])
    saved(bench, phone, project, 3)
    phone.get_by_role("button", name="Undo").click()
    see(phone, pairs[2])
    saved(bench, phone, project, 4)
    assert [verdict for verdict, _ in bench.verdicts(project)] == ["accept", "reject", "skip", "undo"]
    finger.at("touchStart")
    expect(phone.locator(".cur-stage.is-flipped")).to_be_visible()
    finger.at("touchEnd")
    expect(phone.locator(".cur-stage.is-flipped")).to_be_hidden()
    before = phone.evaluate("scrollY")
    finger.swipe(0, 200)  # downwards the page scrolls
    phone.wait_for_function(f"scrollY < {before}")
    assert phone.evaluate("document.scrollingElement.scrollWidth") <= 390
    assert len(bench.verdicts(project)) == 4


@pytest.mark.parametrize("scheme", ["light", "dark"])
def test_axe_finds_nothing(bench: Bench, browser: Browser, scheme: str) -> None:
    visitor = browser.new_page(viewport={"width": 1280, "height": 900}, color_scheme=scheme)  # type: ignore[arg-type]
    project, pairs = bench.project(f"Axe {scheme}", 6, blur=scheme == "dark")
    for pair, verdict in zip(pairs, ("accept", "reject", "skip"), strict=False):
        bench.store.add_verdict(Verdict("", pair.id, "ann", verdict))  # type: ignore[arg-type]
    bench.open(visitor, project)
    see(visitor, pairs[2])
    found = axe_problems(visitor)
    visitor.close()
    assert found == ""
