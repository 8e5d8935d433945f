"""Who may ask: the token, the pages of other origins, and slow clients.

A server that only this machine reaches needs no token, but the browser on this machine shows pages
of anybody, and those may send forms to it. So a request that a page of another origin makes is
refused, and so is one under a name that is not the server's (DNS rebinding).
"""

from __future__ import annotations

import hmac
import logging
import time
from typing import Annotated
from urllib.parse import urlsplit

from fastapi import Depends, HTTPException, Request
from fastapi.responses import JSONResponse
from fastapi.security import HTTPAuthorizationCredentials, HTTPBearer
from starlette.datastructures import Headers, MutableHeaders
from starlette.types import ASGIApp, Message, Receive, Scope, Send

from volseg.server.settings import ServerSettings, is_loopback

_log = logging.getLogger(__name__)
_bearer = HTTPBearer(auto_error=False, description="the token that the server was given")
_SAFE_HEADERS = {
    "X-Content-Type-Options": "nosniff",
    "X-Frame-Options": "DENY",
    "Referrer-Policy": "no-referrer",
    "Cache-Control": "no-store",
}


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


class Guard:
    """The outermost layer: refuses pages of other origins, makes answers safe, and logs.

    Args:
        app: what answers.
        settings: of the server.
    """

    def __init__(self, app: ASGIApp, settings: ServerSettings) -> None:
        self._app = app
        self._settings = settings

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        """Answer a request."""
        if scope["type"] != "http":
            await self._app(scope, receive, send)
            return
        began, status = time.monotonic(), 0

        async def send_safely(message: Message) -> None:
            nonlocal status
            if message["type"] == "http.response.start":
                status = message["status"]
                headers = MutableHeaders(scope=message)
                for name, value in _SAFE_HEADERS.items():
                    headers.setdefault(name, value)
            await send(message)

        refusal = self._refusal(Headers(scope=scope))
        answer = JSONResponse({"detail": refusal}, 403) if refusal else self._app
        await answer(scope, receive, send_safely)
        # The pattern of the path alone: identifiers of images may be names of patients.
        path = getattr(scope.get("route"), "path", "(no such path)")
        seconds = time.monotonic() - began
        _log.info("%s %s %d %.3f s", scope["method"], path, status, seconds)

    def _refusal(self, headers: Headers) -> str | None:
        origin = headers.get("origin")
        try:
            host, asking = urlsplit(f"//{headers.get('host', '')}"), urlsplit(origin or "")
        except ValueError:
            return "the header Host or Origin cannot be read."
        if self._settings.token is None and not is_loopback(host.hostname or ""):
            return "this server answers under a name of this machine alone, such as localhost."
        if origin and origin not in self._settings.origins and asking.netloc != host.netloc:
            return "pages of other origins may not call this server."
        return None
