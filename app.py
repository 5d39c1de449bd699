"""The studio's page: `python app.py`, and the entry of a Hugging Face Space."""

from __future__ import annotations

import os
import sys

os.environ.setdefault("GRADIO_ANALYTICS_ENABLED", "False")  # gradio reads it when it is imported

from studio.hosting.logs import set_up_logs
from studio.inference.zero import client_of
from studio.jobs import Runner
from studio.sample import begin_with_a_project
from studio.settings import Settings, SettingsError
from studio.store import Store, StoreError
from studio.ui import build_ui, launch_options
from studio.upkeep import start_upkeep


def main() -> None:
    settings = Settings.from_environment()
    set_up_logs(as_json=settings.json_logs)
    settings.create_folders()
    store = Store(settings.database)
    begin_with_a_project(store, settings)
    page = build_ui(settings, store, runner := Runner(store, settings), client_of(settings))
    page.launch(quiet=True, prevent_thread_lock=True, **launch_options(settings, store, page.news))
    runner.start()
    start_upkeep(store, settings, page.server)
    print(f"DUO Studio is open at {page.local_url}   (data in {settings.data}; Ctrl-C ends it)", flush=True)
    page.block_thread()


if __name__ == "__main__":
    try:
        main()
    except (SettingsError, StoreError, OSError) as error:  # a port that is taken, a folder that cannot be written
        print(f"Error: {error}", file=sys.stderr)
        sys.exit(2)
