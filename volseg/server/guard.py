"""The outermost layer of the application, which knows nothing of what is asked.

A server that only this machine reaches needs no token, but the browser on this machine shows pages
of anybody, and those may send forms to it. So a request that a page of another origin makes is
refused, and so is one under a name that is not the server's (DNS rebinding). Clients that send too
much, or stop in the middle, are not waited for; but what is refused early is taken from the client
and thrown away for a while, as one that is cut off while it sends does not see the answer.
"""

from __future__ import annotations

import asyncio
import contextlib
import logging
import time
from urllib.parse import urlsplit

from fastapi import HTTPException
from fastapi.responses import JSONResponse
from starlette.datastructures import Headers, MutableHeaders
from starlette.requests import ClientDisconnect
from starlette.types import ASGIApp, Message, Receive, Scope, Send

from volseg.server.faults import described
from volseg.server.settings import ServerSettings, is_loopback

_log = logging.getLogger(__name__)
MOST_BYTES = "volseg.most_bytes"
"""Where in the scope of a request it stands how large its body may be; uploads raise it."""
_USUAL_BYTES = 1 << 20
# How much of what was refused is still taken.
_DISCARDED_BYTES = 1 << 30
_SECONDS_OF_DISCARDING = 30.0
_SILENT_SECONDS_THEN = 3.0
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
        body = _Body(scope, receive, self._settings.limits.silent_seconds)

        async def send_safely(message: Message) -> None:
            nonlocal status
            if message["type"] == "http.response.start":
                status = message["status"]
                headers = MutableHeaders(scope=message)
                for name, value in _SAFE_HEADERS.items():
                    headers.setdefault(name, value)
                if body.more:
                    headers["Connection"] = "close"
            elif body.more and not message.get("more_body", False):
                # All of the answer; its end is what closes the connection.
                await send({**message, "more_body": True})
                await body.discard()
                message = {"type": "http.response.body"}
            await send(message)

        refusal = self._refusal(Headers(scope=scope))
        answer = JSONResponse({"detail": refusal}, 403) if refusal else self._app
        try:
            await answer(scope, body.receive, send_safely)
        except ClientDisconnect:
            pass
        except Exception as error:  # what is above would log its message
            _log.error("a fault:\n%s", described(error))
            if not status:
                sentence = f"unexpected {type(error).__name__} (a fault)."
                answer = JSONResponse({"detail": sentence}, 500)
                await answer(scope, body.receive, send_safely)
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


class _Body:
    """The body of a request: it neither stops nor goes too far.

    Args:
        scope: of the request; how large the body may be stands there.
        receive: gives the next piece.
        patience: seconds that the client may be silent.
    """

    def __init__(self, scope: Scope, receive: Receive, patience: float) -> None:
        headers = Headers(scope=scope)
        scope[MOST_BYTES] = _USUAL_BYTES
        self.more = headers.get("content-length", "0") != "0" or "transfer-encoding" in headers
        """Whether some of it is yet to come."""
        self._scope = scope
        self._receive = receive
        self._patience = patience
        self._received = 0

    async def receive(self) -> Message:
        """Return the next piece, or that the client has gone.

        Raises:
            HTTPException: 408 the client fell silent, 413 it sends too much.
        """
        if not self.more:  # what comes now is that the client has gone, which may take long
            return await self._receive()
        try:
            message = await asyncio.wait_for(self._next(), self._patience)
        except TimeoutError:
            raise HTTPException(
                408, f"nothing came for {self._patience:g} s: send it again."
            ) from None
        most = self._scope[MOST_BYTES]
        if self._received > most:  # whatever its header announced
            raise HTTPException(413, f"the request is larger than {most:,} bytes, the most taken.")
        return message

    async def discard(self) -> None:
        """Take what is yet to come, but not for ever."""
        most = self._received + _DISCARDED_BYTES
        with contextlib.suppress(TimeoutError):
            async with asyncio.timeout(_SECONDS_OF_DISCARDING):
                while self.more and self._received < most:
                    await asyncio.wait_for(self._next(), _SILENT_SECONDS_THEN)

    async def _next(self) -> Message:
        message = await self._receive()
        self._received += len(message.get("body", b""))
        self.more = bool(message.get("more_body", False))
        return message
