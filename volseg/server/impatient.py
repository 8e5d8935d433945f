"""HTTP that does not wait for ever for the head of a request, as uvicorn's own does."""

from __future__ import annotations

import asyncio

import h11
from uvicorn.protocols.http.h11_impl import H11Protocol


class ImpatientProtocol(H11Protocol):
    """Closes a connection if a head takes longer than one may idle between two requests."""

    _due: float | None = None

    def connection_made(self, transport: asyncio.Transport) -> None:  # type: ignore[override]
        """Begin to wait for the first request."""
        super().connection_made(transport)
        self._wait()

    def data_received(self, data: bytes) -> None:
        """Take what has come, and wait on if it was not yet a whole head."""
        super().data_received(data)
        if self.conn.their_state is not h11.IDLE:
            self._due = None
        elif self.timeout_keep_alive_task is None:
            self._wait()

    def _wait(self) -> None:
        # From the first byte on: one byte at a time is no way to stay.
        if self._due is None:
            self._due = self.loop.time() + self.timeout_keep_alive
        handler = self.timeout_keep_alive_handler
        self.timeout_keep_alive_task = self.loop.call_at(self._due, handler)
