"""The studio's page: `python app.py`, and the entry of a Hugging Face Space."""

from __future__ import annotations

import os

os.environ.setdefault("GRADIO_ANALYTICS_ENABLED", "False")  # read by gradio when it is imported

from studio.inference.client import InferenceClient
from studio.jobs import Runner
from studio.records import Project
from studio.settings import Settings
from studio.store import Store
from studio.ui import build_ui, launch_options


def main() -> None:
    settings = Settings.from_environment()
    settings.create_folders()
    store = Store(settings.database)
    if not store.list_projects():
        store.create_project(Project(id="", name="Sword", concept="sword", checkpoint="toybox", detector="toybox"))
    runner = Runner(store, settings)
    client = InferenceClient(settings)
    runner.start()
    print(f"DUO Studio: http://{settings.host}:{settings.port}   (data: {settings.data})", flush=True)
    build_ui(settings, store, runner, client).launch(quiet=True, **launch_options(settings, store))


if __name__ == "__main__":
    main()
