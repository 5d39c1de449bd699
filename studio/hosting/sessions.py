"""Signed cookies: who signed in, and what a sign-in at Hugging Face must come back with. Nothing is kept in memory, so
that a restart signs nobody out.
"""

from __future__ import annotations

import os
import secrets
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from itsdangerous import BadData, URLSafeTimedSerializer

SESSION, NAME, STATE = "duo_session", "duo_name", "duo_state"  # cookies
DAYS = 14
STATE_SECONDS = 600


@dataclass(frozen=True)
class Session:
    """Who signed in, and the stamp that the user had then."""

    name: str
    stamp: str


class Signer:
    """Writes and reads the cookies' values."""

    def __init__(self, secret: str) -> None:
        self._session = URLSafeTimedSerializer(secret, salt="duo-studio session")
        self._state = URLSafeTimedSerializer(secret, salt="duo-studio oauth state")

    def session(self, session: Session) -> str:
        return self._session.dumps([session.name, session.stamp])

    def read_session(self, text: str) -> Session | None:
        """None for what was not signed here, was changed, or is too old."""
        told = _read(self._session, text, DAYS * 86_400)
        good = isinstance(told, list) and len(told) == 2 and all(isinstance(part, str) for part in told)
        return Session(*told) if good else None

    def state(self, told: dict[str, str]) -> str:
        return self._state.dumps(told)

    def read_state(self, text: str) -> dict[str, str]:
        told = _read(self._state, text, STATE_SECONDS)
        return told if isinstance(told, dict) else {}


def secret_of(path: Path) -> str:
    """The studio's secret, made at the first call; a new one each time where the folder cannot be written."""
    for _ in range(3):
        try:
            kept = path.read_text(encoding="ascii").strip()
            if len(kept) >= 32:
                return kept
        except (OSError, UnicodeDecodeError):
            pass
        made = secrets.token_urlsafe(48)
        try:
            path.parent.mkdir(parents=True, exist_ok=True)
            temporary = path.with_name(f".{path.name}.{secrets.token_hex(4)}.part")
            temporary.touch(mode=0o600)
            temporary.write_text(made, encoding="ascii")
            os.link(temporary, path) if not path.exists() else temporary.replace(path)
            temporary.unlink(missing_ok=True)
        except FileExistsError:  # another server made one just now
            temporary.unlink(missing_ok=True)
        except OSError:
            return made
    return made


def _read(serializer: URLSafeTimedSerializer, text: str, seconds: int) -> Any:
    try:
        return serializer.loads(text, max_age=seconds)
    except BadData:
        return None
