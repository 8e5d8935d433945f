"""A form as an answer: how MONAI Label sends a label map and what is said about it at once."""

from __future__ import annotations

import json
import secrets
from collections.abc import Iterator
from pathlib import Path
from typing import Any

from fastapi.responses import StreamingResponse
from starlette.background import BackgroundTask

_CHUNK = 1 << 20


def form_response(
    params: dict[str, Any], name: str, file: Path, after: BackgroundTask
) -> StreamingResponse:
    """Return an answer with the parts ``params``, JSON, and ``image``, a file.

    Args:
        params: as JSON can hold it.
        name: that the client is to give the file.
        file: what is sent, piece by piece.
        after: done when it was sent.
    """
    boundary = secrets.token_hex(16)
    head = (
        f'--{boundary}\r\nContent-Disposition: form-data; name="params"\r\n'
        f"Content-Type: application/json\r\n\r\n{json.dumps(params)}\r\n"
        f'--{boundary}\r\nContent-Disposition: form-data; name="image"; filename="{name}"\r\n'
        "Content-Type: application/octet-stream\r\n\r\n"
    ).encode()
    foot = f"\r\n--{boundary}--\r\n".encode()

    def parts() -> Iterator[bytes]:
        yield head
        with file.open("rb") as stream:
            while chunk := stream.read(_CHUNK):
                yield chunk
        yield foot

    length = len(head) + file.stat().st_size + len(foot)
    return StreamingResponse(
        parts(),
        media_type=f"multipart/form-data; boundary={boundary}",
        headers={"Content-Length": str(length)},
        background=after,
    )
