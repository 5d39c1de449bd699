"""Roles, and who asks: told once at the door, read anywhere below it."""

from __future__ import annotations

from contextvars import ContextVar
from dataclasses import dataclass
from ipaddress import IPv6Address, IPv6Network
from typing import Literal

Role = Literal["viewer", "reviewer", "owner"]
Need = Literal["anybody", "viewer", "reviewer", "owner", "nobody"]
ROLES: tuple[Role, ...] = ("viewer", "reviewer", "owner")  # each may do what those before it may
_RANK = {"anybody": 0, "viewer": 1, "reviewer": 2, "owner": 3, "nobody": 4}
KEY = "duo_studio.viewer"  # in an ASGI scope


@dataclass(frozen=True)
class Viewer:
    """One visitor. Without a sign-in the name is what was typed, and proves nothing."""

    name: str  # "" where none was told
    role: Role | Literal[""]  # "": must sign in first
    signed_in: bool = False
    address: str = ""

    @property
    def key(self) -> str:
        """For whom is counted: whoever signed in, or else the address."""
        return f"name {self.name}" if self.signed_in else f"address {self.network}"

    @property
    def network(self) -> str:
        """The address as one visitor has it: of IPv6 the first half, since everybody has the whole other half."""
        try:
            address = IPv6Address(self.address.partition("%")[0])
        except ValueError:
            return self.address
        return str(address.ipv4_mapped or IPv6Network((address, 64), strict=False))

    @property
    def is_owner(self) -> bool:
        return self.role == "owner"

    def may(self, need: Need) -> bool:
        """Whether the role is enough for what takes at least `need`."""
        return _RANK[self.role or "anybody"] >= _RANK[need]

    def may_see_work_of(self, reviewer: str) -> bool:
        """A reviewer's speed and reveals are that reviewer's and the owner's business."""
        return self.is_owner or (self.name != "" and self.name == reviewer)


# Whose work is being done in this thread or task; None in a shell, and where nobody had to sign in.
asker: ContextVar[Viewer | None] = ContextVar("asker", default=None)


def refusal(viewer: Viewer, need: Need) -> str:
    """Why this visitor may not."""
    if need == "nobody":
        return "This is switched off here."
    if not viewer.role:
        return "Sign in first."
    if viewer.signed_in:
        return f"This takes the role {need}; {viewer.name} is signed in as {viewer.role}. Ask the owner of this studio."
    return f"This takes the role {need}, and you are not signed in."
