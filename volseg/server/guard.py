"""The outermost layer of the application, which knows nothing of what is asked.

A server that only this machine reaches needs no token, but the browser on this machine shows pages
of anybody, and those may send forms to it. So a request that a page of another origin makes is
refused, and so is one under a name that is not the server's (DNS rebinding). Clients that send too
much, or stop in the middle, are not waited for.
"""

from __future__ import annotations

import asyncio
import logging
import time
from urllib.parse import urlsplit

from fastapi import HTTPException
from fastapi.responses import JSONResponse
from starlette.datastructures import Headers, MutableHeaders
from starlette.types import ASGIApp, Message, Receive, Scope, Send

from volseg.server.settings import ServerSettings, is_loopback

_log = logging.getLogger(__name__)
MOST_BYTES = "volseg.most_bytes"
"""Where in the scope of a request it stands how large its body may be; uploads raise it."""
_USUAL_BYTES = 1 << 20
_SAFE_HEADERS = {
    "X-Content-Type-Options": "nosniff",
    "X-Frame-Options": "DENY",
    "Referrer-Policy": "no-referrer",
    "Cache-Control": "no-store",
}


class Guard:
    """Refuses what is not safe to answer, makes answers safe, and logs.

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
        await answer(scope, self._moderate(scope, receive), send_safely)
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

    def _moderate(self, scope: Scope, receive: Receive) -> Receive:
        """Return what receives a body that neither stops nor goes too far."""
        scope[MOST_BYTES] = _USUAL_BYTES
        patience = self._settings.limits.silent_seconds
        received, more = 0, True

        async def receive_moderately() -> Message:
            nonlocal received, more
            if not more:  # what comes now is that the client has gone, which may take long
                return await receive()
            try:
                message = await asyncio.wait_for(receive(), patience)
            except TimeoutError:
                raise HTTPException(
                    408, f"nothing came for {patience:g} s: send it again."
                ) from None
            received += len(message.get("body", b""))
            more = bool(message.get("more_body", False))
            if received > scope[MOST_BYTES]:  # whatever its header announced
                raise HTTPException(
                    413, f"the request is larger than {scope[MOST_BYTES]:,} bytes, the most taken."
                )
            return message

        return receive_moderately
