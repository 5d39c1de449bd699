"""Export in Chromium: from a finished training to a file on the visitor's disk, and to a stand-in for the hub."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path

import pytest
from playwright.sync_api import Page, expect
from safetensors.torch import load_file

from models.loading import load_bundle
from studio.records import Checkpoint, Job, Project
from studio.store import Store
from tests.browser.axe import axe_problems
from tests.browser.running import RunningStudio, running_studio, tiny_settings, visit
from tests.hub_server import TOKEN, Hub, hub_server
from tests.test_foreign import random_lora


@pytest.fixture
def hub(monkeypatch: pytest.MonkeyPatch) -> Iterator[Hub]:
    """What the page and its worker take for the hub, and a token for it."""
    with hub_server() as made:
        for name, value in {"HF_ENDPOINT": made.url, "HF_TOKEN": TOKEN, "HF_HUB_DISABLE_XET": "1"}.items():
            monkeypatch.setenv(name, value)
        yield made


@pytest.fixture
def studio(hub: Hub, tiny_folder: Path, tmp_path: Path) -> Iterator[RunningStudio]:
    """A page with one trained LoRA. Asked for before `page`, so that it ends after it."""
    from models.deltas import save_delta

    settings = tiny_settings(tmp_path / "data", tiny_folder)
    settings.create_folders()
    store = Store(settings.database)
    project = store.create_project(Project("", "Sword", "sword", "toybox", "toybox", {"concept": "sword"}))
    job = store.create_job(Job("", project.id, "train", {"method": "duo", "name": "DUO", "config": {}}))
    path = settings.checkpoints / job.id / "adapter.safetensors"
    sha256 = save_delta(random_lora(load_bundle("toybox", device="cpu", toybox=tiny_folder), 4, 10.0), path)
    made = store.add_checkpoint(Checkpoint("", project.id, job.id, "duo", "DUO", str(path), sha256, "lora"))
    store.update_job(job.id, state="done", result={"checkpoint_id": made.id})
    store.close()
    with running_studio(settings) as running:
        yield running


def test_a_model_leaves_as_a_file_and_to_the_hub(studio: RunningStudio, hub: Hub, page: Page) -> None:
    visit(page, studio.url)
    page.get_by_role("tab", name="Train").click()
    page.get_by_role("link", name="Export it for other programs").click()
    facts = page.locator("#duo-export-facts")
    expect(facts).to_contain_text("That is what to publish.")
    page.get_by_label("LoRA for ComfyUI and A1111").check()
    expect(facts).to_contain_text("can be taken off, scaled or negated")
    page.get_by_role("button", name="Export", exact=True).click()
    expect(page.locator("#duo-exports .duo-pill")).to_have_text("done")
    with page.expect_download() as download:
        page.get_by_role("link", name="Download duo.safetensors").click()
    alphas = {float(value) for key, value in load_file(download.value.path()).items() if key.endswith(".alpha")}
    assert alphas == {10.0}
    with page.expect_popup() as popup:
        page.get_by_role("link", name="Model card").click()
    expect(popup.value.get_by_text("made to forget: sword")).to_be_visible()
    popup.value.close()

    page.get_by_role("button", name="Export and send").click()
    wrong = page.locator("#duo-export").get_by_role("alert")
    expect(wrong).to_contain_text("Name the repository on the hub first, owner/name.")
    page.get_by_label("Repository on the Hugging Face hub").fill("me/forgets-swords")
    page.get_by_label("Merged, a diffusers folder").check()
    expect(facts).to_contain_text("That is what to publish.")
    page.get_by_role("button", name="Export and send").click()
    expect(wrong).to_have_count(0)
    link = page.get_by_role("link", name="On the hub")
    expect(link).to_have_attribute("href", f"{hub.url}/me/forgets-swords")
    arrived = hub.repositories["me/forgets-swords"]
    assert arrived.private
    assert {"README.md", "model_index.json", "unet/diffusion_pytorch_model.safetensors"} <= arrived.files.keys()
    assert TOKEN not in page.content()
    for scheme in ("light", "dark"):
        page.emulate_media(color_scheme=scheme)  # type: ignore[arg-type]
        page.set_viewport_size({"width": 390, "height": 844})
        assert page.evaluate("document.scrollingElement.scrollWidth") <= 390
        assert axe_problems(page) == ""
