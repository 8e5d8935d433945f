"""The token that clients have to know."""

from __future__ import annotations

import hmac
from typing import Annotated

from fastapi import Depends, HTTPException, Request
from fastapi.security import HTTPAuthorizationCredentials, HTTPBearer

from volseg.server.settings import ServerSettings

_bearer = HTTPBearer(auto_error=False, description="the token that the server was given")


def require_token(
    request: Request,
    given: Annotated[HTTPAuthorizationCredentials | None, Depends(_bearer)],
) -> None:
    """Refuse who does not know the server's token, if it has one.

    Raises:
        HTTPException: 401.
    """
    settings: ServerSettings = request.app.state.service.settings
    if not is_token(given.credentials if given else "", settings):
        raise HTTPException(
            401,
            "this server needs its token: Authorization: Bearer TOKEN.",
            headers={"WWW-Authenticate": "Bearer"},
        )


def is_token(text: str, settings: ServerSettings) -> bool:
    """Return whether a text is the server's token; how long that takes does not tell how close."""
    if settings.token is None:
        return True
    return hmac.compare_digest(text.encode(), settings.token.encode())
