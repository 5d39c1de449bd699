"""Sign-in at Hugging Face: OAuth 2 with PKCE. Who it is, is asked over TLS of the provider itself; no token is kept."""

from __future__ import annotations

import base64
import hashlib
import secrets
from typing import Any
from urllib.parse import urlencode

import httpx

from studio.settings import OAuth, Settings

SECONDS = 10.0
LARGEST = 1 << 16  # bytes of an answer


class OAuthError(RuntimeError):
    """The provider did not say who it is; says why, without any token."""


def begin(oauth: OAuth, redirect: str) -> tuple[str, dict[str, str]]:
    """The address to send the browser to, and what must be known when it comes back."""
    state, verifier = secrets.token_urlsafe(24), secrets.token_urlsafe(48)
    challenge = base64.urlsafe_b64encode(hashlib.sha256(verifier.encode()).digest()).rstrip(b"=").decode()
    query = {
        "client_id": oauth.client_id, "redirect_uri": redirect, "response_type": "code", "scope": "openid profile",
        "state": state, "code_challenge": challenge, "code_challenge_method": "S256",
    }  # fmt: skip
    return f"{oauth.provider}/oauth/authorize?{urlencode(query)}", {"state": state, "verifier": verifier}


def finish(oauth: OAuth, redirect: str, code: str, verifier: str) -> str:
    """The name of who signed in. Raises OAuthError."""
    try:
        with httpx.Client(timeout=SECONDS, follow_redirects=False) as client:
            told = _json(
                client.post(
                    f"{oauth.provider}/oauth/token",
                    auth=(oauth.client_id, oauth.client_secret),
                    data={
                        "grant_type": "authorization_code", "code": code, "redirect_uri": redirect,
                        "code_verifier": verifier, "client_id": oauth.client_id,
                    },
                )
            )  # fmt: skip
            bearer = {"Authorization": f"Bearer {told.get('access_token', '')}"}
            user = _json(client.get(f"{oauth.provider}/oauth/userinfo", headers=bearer))
    except (httpx.HTTPError, ValueError) as error:
        raise OAuthError(f"{oauth.provider} did not answer as expected ({type(error).__name__}).") from None
    name = user.get("preferred_username")
    if not isinstance(name, str) or not name:
        raise OAuthError(f"{oauth.provider} named no user.")
    return name


def is_space_owner(settings: Settings, name: str) -> bool:
    """Whether the Space that this runs in is this user's own."""
    return bool(settings.space) and name == settings.space_owner


def _json(response: httpx.Response) -> dict[str, Any]:
    if response.status_code != 200:
        raise OAuthError(f"The sign-in was refused with status {response.status_code}. Sign in again.")
    if len(response.content) > LARGEST:
        raise OAuthError("The answer is too large.")
    told = response.json()
    if not isinstance(told, dict):
        raise ValueError("no object")
    return told
