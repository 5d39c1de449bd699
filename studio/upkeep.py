"""What a server does beside answering: tidies up at the start, and watches connections and pictures' age. No torch."""

from __future__ import annotations

from typing import Any

from studio.backups import BackupWatch
from studio.cleaning import delete_temporary
from studio.hosting.connections import ConnectionWatch
from studio.purging import RetentionWatch
from studio.settings import Settings
from studio.store import Store


def start_upkeep(store: Store, settings: Settings, server: Any) -> None:
    """`server` is uvicorn's, running."""
    ConnectionWatch(server, settings.limits).start()
    delete_temporary(store, settings)
    RetentionWatch(store, settings).start()
    BackupWatch(settings).start()
