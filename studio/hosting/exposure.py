"""Whether the page may listen where it is told to: beyond this machine only with somebody at the door."""

from __future__ import annotations

from ipaddress import ip_address

from studio.hosting.users import Users
from studio.settings import Settings, SettingsError

OWN_DOMAINS = (".localhost", ".local", ".lan", ".internal", ".home.arpa")  # which nobody can register


def is_loopback(host: str) -> bool:
    """Whether an address or a name is this machine's own alone."""
    name = host.strip("[]").lower()
    if name == "localhost" or name.endswith(".localhost"):
        return True
    try:
        return ip_address(name).is_loopback
    except ValueError:
        return False


def is_public_name(host: str) -> bool:
    """Whether it is a name that somebody on the internet can own, and let point to this machine (DNS rebinding)."""
    name = host.strip("[]").rstrip(".").lower()
    try:
        ip_address(name.partition("%")[0])
    except ValueError:
        return "." in name and not name.endswith(OWN_DOMAINS)
    return False


def has_sign_in(settings: Settings, users: Users) -> bool:
    return bool(settings.oauth) or bool(users.all())


def check_exposure(settings: Settings, users: Users) -> None:
    """Raise SettingsError where anybody on the network could do anything."""
    if is_loopback(settings.host) or has_sign_in(settings, users) or settings.public_demo or settings.open_to:
        return
    raise SettingsError(
        f"GRADIO_SERVER_NAME is {settings.host}: whoever reaches port {settings.port} could use and delete everything, "
        "since nobody has to sign in. Add a user (python -m studio users add NAME --role owner), set "
        "DUO_STUDIO_PUBLIC_DEMO=1 so that visitors can only look and draw, or set DUO_STUDIO_OPEN=owner (or reviewer, "
        "viewer) if something else keeps strangers away."
    )
