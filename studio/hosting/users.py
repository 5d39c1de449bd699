"""Who may sign in: one small file of names, roles and Argon2 hashes. It holds no password.

A user has a password, or signs in at Hugging Face by the same name; see `python -m studio users`.
"""

from __future__ import annotations

import hashlib
import json
import re
import threading
from dataclasses import asdict, dataclass, replace
from pathlib import Path
from typing import Any, get_args

from argon2 import PasswordHasher
from argon2.exceptions import InvalidHashError, VerificationError

from models.files import write_atomically
from studio.hosting.roles import ROLES, Role
from studio.settings import SettingsError

FORMAT = 1
SHORTEST = 10  # characters of a password
LONGEST = 200
NAME = re.compile(r"[^\s\x00-\x1f\x7f/\\<>\"'&;,=]{1,60}")
RESERVED = frozenset({"detector", "anybody", "nobody"})
_HASHER = PasswordHasher()  # RFC 9106's second choice: Argon2id, 64 MiB, 3 passes
_TURN = threading.BoundedSemaphore(2)  # hashes at once: each takes 64 MiB


class UserError(SettingsError):
    """A user that cannot be added or found, or a file that cannot be read; says which and the remedy."""


@dataclass(frozen=True)
class User:
    """One who may sign in."""

    name: str
    role: Role
    hash: str = ""  # of the password; "" for who signs in at Hugging Face alone
    hugging_face: bool = False

    @property
    def stamp(self) -> str:
        """Another one after a change of password or role: sessions of before end."""
        return hashlib.sha256(f"{self.hash}|{self.role}|{self.hugging_face}".encode()).hexdigest()[:16]


class Users:
    """The file of users. Safe to share by threads; a change by another process is seen at the next question."""

    def __init__(self, path: Path, hasher: PasswordHasher = _HASHER) -> None:
        self.path, self.hasher = path, hasher
        self._lock = threading.Lock()
        self._read_at: tuple[int, int] | None = None
        self._users: dict[str, User] = {}
        self._nobody = ""

    def all(self) -> list[User]:
        """Everybody, by name. Raises UserError where the file is damaged."""
        with self._lock:
            try:
                stat = self.path.stat()
            except FileNotFoundError:
                self._users, self._read_at = {}, None
                return []
            if (stat.st_mtime_ns, stat.st_ino) != self._read_at:
                self._users = {user.name: user for user in read_users(self.path)}
                self._read_at = (stat.st_mtime_ns, stat.st_ino)
            return sorted(self._users.values(), key=lambda user: user.name)

    def get(self, name: str) -> User | None:
        return next((user for user in self.all() if user.name == name), None)

    def check(self, name: str, password: str) -> User | None:
        """The user whose password this is. It takes as long for a name that is not there."""
        user = self.get(name)
        with _TURN:
            self._nobody = self._nobody or self.hasher.hash("nobody's password")
            known = user.hash if user is not None and user.hash else self._nobody
            try:
                self.hasher.verify(known, password[: LONGEST + 1])
            except (VerificationError, InvalidHashError):
                return None
        return user if user is not None and user.hash else None

    def add(self, name: str, role: str, password: str = "", *, hugging_face: bool = False) -> User:
        """Add a user, or change one's role and password. Raises UserError."""
        name = name.strip()
        if not NAME.fullmatch(name) or name.lower() in RESERVED:
            raise UserError(
                f"{name!r} cannot be a user's name. Use 1 to 60 characters without spaces, quotes, slashes and any of "
                f"<>&;,= and none of {', '.join(sorted(RESERVED))}."
            )
        if role not in ROLES:
            raise UserError(f"There is no role {role!r}; use {', '.join(get_args(Role))}.")
        if not password and not hugging_face:
            raise UserError(f"{name} needs a password, or --hugging-face to sign in there.")
        if password and not SHORTEST <= len(password) <= LONGEST:
            raise UserError(f"The password has {len(password)} characters; use {SHORTEST} to {LONGEST}.")
        user = User(name, role, self.hasher.hash(password) if password else "", hugging_face)
        self._write([*(other for other in self.all() if other.name != name), user])
        return user

    def change_role(self, name: str, role: str) -> User:
        """Raises UserError."""
        found = self.get(name)
        if found is None:
            raise UserError(f"There is no user {name!r}. Add one with a password.")
        if role not in ROLES:
            raise UserError(f"There is no role {role!r}; use {', '.join(get_args(Role))}.")
        user = replace(found, role=role)
        self._write([*(other for other in self.all() if other.name != name), user])
        return user

    def remove(self, name: str) -> None:
        """Raises UserError where there is none."""
        users = self.all()
        kept = [user for user in users if user.name != name]
        if len(kept) == len(users):
            known = ", ".join(user.name for user in users) or "none"
            raise UserError(f"There is no user {name!r}. Users: {known}.")
        self._write(kept)

    def _write(self, users: list[User]) -> None:
        rows = {"format": FORMAT, "users": [asdict(user) for user in sorted(users, key=lambda user: user.name)]}
        self.path.parent.mkdir(parents=True, exist_ok=True)
        write_atomically(self.path, json.dumps(rows, indent=1).encode() + b"\n", mode=0o600)
        with self._lock:
            self._read_at = None


def read_users(path: Path) -> list[User]:
    """Raises UserError: a file that cannot be read must not mean that nobody has to sign in."""
    try:
        told = json.loads(path.read_text(encoding="utf-8"))
        if told["format"] != FORMAT:
            raise UserError(f"{path} has format {told['format']!r}; this studio reads {FORMAT}.")
        return [_user(row) for row in told["users"]]
    except (OSError, KeyError, TypeError, ValueError) as error:
        if isinstance(error, UserError):
            raise
        raise UserError(
            f"{path} is no file of users ({error}). Restore it, or delete it and add the users again."
        ) from error


def _user(row: dict[str, Any]) -> User:
    if not NAME.fullmatch(row["name"]) or row["role"] not in ROLES:
        raise UserError(f"{row['name']!r} as {row['role']!r} is no user.")
    return User(row["name"], row["role"], str(row.get("hash", "")), row.get("hugging_face") is True)
