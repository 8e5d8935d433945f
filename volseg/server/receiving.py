"""Receiving of multipart forms: files go to the disk as they come, and no further than allowed.

Starlette's own parser takes files of any size, into memory or the system's temporary folder,
before it looks at anything; this one counts, and writes where the job will lie.
"""

from __future__ import annotations

import asyncio
import contextlib
from collections.abc import AsyncIterator
from dataclasses import dataclass, field
from pathlib import Path
from typing import IO, TYPE_CHECKING, Any

from fastapi import HTTPException, Request
from python_multipart import MultipartParser
from python_multipart.exceptions import FormParserError
from python_multipart.multipart import parse_options_header

from volseg.server.guard import MOST_BYTES
from volseg.server.service import Service
from volseg.server.settings import Limits

if TYPE_CHECKING:
    from python_multipart.multipart import MultipartCallbacks

_MOST_FIELD_BYTES = 1 << 20
_MOST_FIELDS = 64


@dataclass
class Form:
    """What a client has sent.

    Attributes:
        folder: where its files lie.
        fields: text by name.
        files: name of the part and where its content lies, in order; names may repeat.
    """

    folder: Path
    fields: dict[str, str] = field(default_factory=dict)
    files: list[tuple[str, Path]] = field(default_factory=list)


def receiving_form(
    properties: dict[str, Any], *, required: list[str] | None = None
) -> dict[str, Any]:
    """Return the OpenAPI of a request whose body is read by `received_form`.

    Args:
        properties: schema of each part.
        required: names of those that may not be left out.
    """
    schema = {"type": "object", "properties": properties, "required": required or []}
    objects = [name for name, one in properties.items() if one["type"] == "object"]
    encoding = {name: {"contentType": "application/json"} for name in objects}
    content = {"multipart/form-data": {"schema": schema, "encoding": encoding}}
    return {"requestBody": {"required": True, "content": content}}


@contextlib.asynccontextmanager
async def received_form(request: Request, service: Service) -> AsyncIterator[Form]:
    """Receive a form, and give it while the block runs; its files are removed then, unless taken.

    Raises:
        FullError: there is no room for it.
        HTTPException: 400 it is damaged, 408 the client fell silent, 413 it is too large, 415 it
            is no form.
    """
    limits = service.settings.limits
    async with service.receiving(announced_bytes(request, limits)) as folder:
        yield await _receive(request, folder, limits)


async def _receive(request: Request, folder: Path, limits: Limits) -> Form:
    kind, options = parse_options_header(request.headers.get("content-type", ""))
    if kind != b"multipart/form-data" or not options.get(b"boundary"):
        raise HTTPException(415, "expected a form, multipart/form-data with a boundary.")
    request.scope[MOST_BYTES] = limits.upload_bytes
    receiver = _Receiver(folder, limits)
    try:
        parser = MultipartParser(options[b"boundary"], receiver.callbacks())
        async for chunk in request.stream():
            await asyncio.to_thread(parser.write, chunk)
        parser.finalize()
    except FormParserError as error:
        raise HTTPException(400, f"the form is damaged: {error}.") from error
    finally:
        receiver.close()
    if not receiver.complete:
        raise HTTPException(400, "the form ends before its last boundary: send it again.")
    return receiver.form


def announced_bytes(request: Request, limits: Limits) -> int:
    """Return how large a request will be at most.

    Raises:
        HTTPException: 413 more than is taken; nothing of it was read then.
    """
    announced = request.headers.get("content-length", "")
    if not announced.isdecimal():
        return limits.upload_bytes
    if int(announced) > limits.upload_bytes:
        raise HTTPException(
            413, f"the request is larger than {limits.upload_bytes:,} bytes, the most taken here."
        )
    return int(announced)


class _Receiver:
    """The parts of a form as they come."""

    def __init__(self, folder: Path, limits: Limits) -> None:
        self.form = Form(folder)
        self.complete = False
        self._limits = limits
        self._header = (b"", b"")
        self._disposition = b""
        self._name = ""
        self._text = bytearray()
        self._file: IO[bytes] | None = None

    def callbacks(self) -> MultipartCallbacks:
        """Return what the parser calls."""
        return {
            "on_part_begin": self._begin,
            "on_header_field": self._header_name,
            "on_header_value": self._header_value,
            "on_header_end": self._header_end,
            "on_headers_finished": self._headers_finished,
            "on_part_data": self._data,
            "on_part_end": self._end,
            "on_end": self._all,
        }

    def close(self) -> None:
        """Close the file at hand."""
        if self._file is not None:
            self._file.close()
            self._file = None

    def _begin(self) -> None:
        self._disposition = b""
        self._text.clear()

    def _header_name(self, data: bytes, start: int, end: int) -> None:
        self._header = (self._header[0] + data[start:end], b"")

    def _header_value(self, data: bytes, start: int, end: int) -> None:
        self._header = (self._header[0], self._header[1] + data[start:end])

    def _header_end(self) -> None:
        if self._header[0].lower() == b"content-disposition":
            self._disposition = self._header[1]
        self._header = (b"", b"")

    def _headers_finished(self) -> None:
        _, options = parse_options_header(self._disposition)
        self._name = options.get(b"name", b"").decode("utf-8", "replace")
        if not self._name:
            raise HTTPException(400, "the form is damaged: a part has no name.")
        if b"filename" in options:  # the name itself is not looked at
            if len(self.form.files) >= self._limits.files:
                raise HTTPException(413, f"more than {self._limits.files:,} files.")
            path = self.form.folder / f"part{len(self.form.files)}"
            self._file = path.open("wb")
            self.form.files.append((self._name, path))
        elif len(self.form.fields) >= _MOST_FIELDS or self._name in self.form.fields:
            raise HTTPException(400, f"the field {self._name[:64]!r} is one too many.")

    def _data(self, data: bytes, start: int, end: int) -> None:
        if self._file is not None:
            self._file.write(memoryview(data)[start:end])
            return
        self._text += data[start:end]
        if len(self._text) > _MOST_FIELD_BYTES:
            raise HTTPException(413, f"the field {self._name[:64]!r} is too long.")

    def _end(self) -> None:
        if self._file is None:
            self.form.fields[self._name] = self._text.decode("utf-8", "replace")
        self.close()

    def _all(self) -> None:
        self.complete = True
