"""Bringing a folder in by Chromium, from the drop zone to pairs in Curate; taking them out; deleting them."""

from __future__ import annotations

import zipfile
from pathlib import Path

from playwright.sync_api import Page, expect
from safetensors.torch import save_file

from studio.records import Project
from studio.store import Store
from tests.bring_data import folder_of_pairs
from tests.browser.running import RunningStudio, visit
from tests.conftest import make_tiny_bundle


def open_curate(page: Page, studio: RunningStudio, name: str) -> Project:
    store = Store(studio.settings.database)
    project = store.create_project(Project("", name, "sword", "toybox", "toybox"))
    store.close()
    visit(page, f"{studio.url}?project={project.id}")
    page.get_by_role("tab", name="Curate").click()
    return project


def test_a_folder_comes_in_and_goes_out_and_is_deleted(page: Page, tiny_studio: RunningStudio, tmp_path: Path) -> None:
    mine = folder_of_pairs(tmp_path / "mine", 3)
    (mine / "safe" / "1.png").write_text("<svg/>")
    (mine / "Thumbs.db").write_text("junk")
    project = open_curate(page, tiny_studio, "Brought")
    expect(page.locator(".cur-none")).to_contain_text("bring your own, below")
    page.locator("#duo-bring > button").click()
    page.get_by_role("button", name="Bring them in").click()
    expect(page.locator("#duo-bring-said").get_by_role("alert")).to_have_text(
        "There are no files yet. Drop them into the box, or choose them."
    )
    page.locator('.br-zone [data-is="folder"]').set_input_files(mine)
    expect(page.locator(".br-said")).to_have_text("3 pairs.")
    page.get_by_label("Accept them as").fill("Ann")
    page.get_by_role("button", name="Bring them in").click()
    expect(page.locator("#duo-bring-progress")).to_contain_text("mine: 2 taken, 1 not taken.")
    expect(page.locator(".br-said")).to_have_count(0)  # the drop zone is empty again
    refused = page.get_by_role("region", name="Files that were not taken")
    expect(refused).to_contain_text("mine/safe/1.png")
    expect(refused).to_contain_text("SVG, HTML")
    with page.expect_download() as table:
        page.get_by_role("link", name="Download as CSV").click()
    assert Path(table.value.path()).read_text(encoding="utf-8").count("\n") == 3
    assert not list(tiny_studio.settings.incoming.iterdir())

    page.locator('[data-is="shows"]').select_option("accepted")
    expect(page.locator(".cur-facts")).to_contain_text("mine/unsafe/0.png, mine/safe/0.png")
    page.get_by_role("button", name="Redo").first.click()
    expect(page.locator(".cur-lines")).to_contain_text("there is nothing to make again")

    page.locator("#duo-take > button").click()
    with page.expect_download() as packed:
        page.get_by_role("link", name="Download as imagefolder").click()
    with zipfile.ZipFile(packed.value.path()) as archive:
        assert archive.read("metadata.jsonl").count(b'"decision": "accept"') == 2

    page.locator("#duo-purge > button").click()
    page.get_by_label("All pairs").check()
    page.get_by_role("button", name="What would go?").click()
    expect(page.locator("#duo-purge-told")).to_contain_text("2 pairs, 6 files")
    panel = page.locator("#duo-purge")
    panel.get_by_label("Your name").fill("Ann")
    panel.get_by_label("Type the project's name, Brought").fill("Brought")
    page.get_by_role("button", name="Delete these pictures").click()
    expect(page.locator("#duo-purge-said")).to_contain_text("Deleted: 2 pairs, 6 files")
    expect(page.locator(".cur-none")).to_contain_text("No pairs yet")
    store = Store(tiny_studio.settings.database)
    assert [pair.state for pair in store.list_image_pairs(project.id, "purged")] == ["purged"] * 2
    assert [verdict.reviewer for verdict in store.list_verdicts(project.id)] == ["Ann"] * 2
    store.close()

    released = tmp_path / "esd-sword.safetensors"
    name, weight = next(
        (name, weight) for name, weight in make_tiny_bundle().denoiser.named_parameters() if ".attn2.to_v." in name
    )
    save_file({name: weight.detach() + 1}, released)
    page.get_by_role("tab", name="Train").click()
    page.locator("#duo-import > button").click()
    page.get_by_label("File of weights").set_input_files(released)
    page.locator("#duo-import-go").click()
    expect(page.locator("#duo-import-state")).to_contain_text("ESD (esd-sword)")
    assert not list(tiny_studio.settings.incoming.iterdir())


def test_a_zip_is_dropped_and_the_panels_fit_a_phone(page: Page, tiny_studio: RunningStudio, tmp_path: Path) -> None:
    page.set_viewport_size({"width": 390, "height": 844})
    mine = folder_of_pairs(tmp_path / "mine", 2)
    path = tmp_path / "two pairs.zip"
    with zipfile.ZipFile(path, "w") as archive:
        for file in sorted(mine.rglob("*.png")):
            archive.write(file, file.relative_to(mine))
    open_curate(page, tiny_studio, "Dropped")
    for panel in ("bring", "take", "purge"):
        page.locator(f"#duo-{panel} > button").click()
    page.evaluate(
        """async ([name, bytes]) => {
          const carried = new DataTransfer();
          carried.items.add(new File([new Uint8Array(bytes)], name));
          const zone = document.querySelector('.br-zone');
          for (const kind of ['dragenter', 'dragover', 'drop']) {
            zone.dispatchEvent(new DragEvent(kind, { dataTransfer: carried, bubbles: true, cancelable: true }));
          }
        }""",
        [path.name, list(path.read_bytes())],
    )
    expect(page.locator(".br-said")).to_have_text("2 pairs.")
    assert page.evaluate("document.scrollingElement.scrollWidth") <= 390
    page.get_by_role("button", name="Start over").click()
    expect(page.locator(".br-said")).to_have_count(0)
    expect(page.get_by_role("button", name="Start over")).to_be_hidden()
