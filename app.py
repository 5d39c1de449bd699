"""The studio's page: `python app.py`, and the entry of a Hugging Face Space."""

from __future__ import annotations

import os
import sys

os.environ.setdefault("GRADIO_ANALYTICS_ENABLED", "False")  # gradio reads it when it is imported

from studio.cleaning import delete_temporary
from studio.inference.client import InferenceClient
from studio.jobs import Runner
from studio.purging import RetentionWatch
from studio.records import Project
from studio.settings import Settings, SettingsError
from studio.store import Store, StoreError
from studio.ui import build_ui, launch_options


def main() -> None:
    settings = Settings.from_environment()
    settings.create_folders()
    store = Store(settings.database)
    if not store.list_projects():
        store.create_project(Project(id="", name="Sword", concept="sword", checkpoint="toybox", detector="toybox"))
    page = build_ui(settings, store, runner := Runner(store, settings), InferenceClient(settings))
    page.launch(quiet=True, prevent_thread_lock=True, **launch_options(settings, store))
    runner.start()
    delete_temporary(store, settings)
    RetentionWatch(store, settings).start()
    print(f"DUO Studio is open at {page.local_url}   (data in {settings.data}; Ctrl-C ends it)", flush=True)
    page.block_thread()


if __name__ == "__main__":
    try:
        main()
    except (SettingsError, StoreError, OSError) as error:  # a port that is taken, a folder that cannot be written
        print(f"Error: {error}", file=sys.stderr)
        sys.exit(2)
