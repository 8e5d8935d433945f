"""volseg on another computer: a server that `volseg serve` started."""

from __future__ import annotations

import contextlib
import http.client
import json
import secrets
import threading
import time
import urllib.error
import urllib.parse
import urllib.request
from collections.abc import Iterator, Mapping, Sequence
from pathlib import Path
from typing import Any

from .bundles import Bundle, read_bundles
from .errors import VolSegError
from .results import Result, read_remarks
from .steps import Progress, Steps, in_background

_SECONDS_TO_ANSWER = 30
_SECONDS_BETWEEN_QUESTIONS = 0.3
_TRIES_TO_FORGET = 100
_BLOCK = 1 << 20
_LOOPBACK = ("localhost", "127.0.0.1", "::1")


class _NoRedirects(urllib.request.HTTPRedirectHandler):
    """The token and the images go where the user said, and nowhere else."""

    def redirect_request(self, *_: Any) -> None:
        return None


class _Connection(http.client.HTTPConnection):
    """Reads the answer of a server that refused before all of the request was sent."""

    def request(self, *arguments: Any, **options: Any) -> None:
        self.connect()  # a failure of which is no refusal
        with contextlib.suppress(BrokenPipeError, ConnectionResetError):
            super().request(*arguments, **options)


class _SecureConnection(_Connection, http.client.HTTPSConnection):
    """The same, encrypted."""


class _Plainly(urllib.request.HTTPHandler):
    """Opens `_Connection`."""

    def http_open(self, request: urllib.request.Request) -> Any:
        return self.do_open(_Connection, request)


class _Securely(urllib.request.HTTPSHandler):
    """Opens `_SecureConnection`."""

    def https_open(self, request: urllib.request.Request) -> Any:
        return self.do_open(_SecureConnection, request)


class VolSegServer:
    """A server of volseg.

    Args:
        address: such as ``http://localhost:8000``.
        token: what the server asks for; none for one on this computer.

    Raises:
        VolSegError: the address is none.
    """

    def __init__(self, address: str, token: str = "") -> None:
        parts = urllib.parse.urlsplit(address.strip())
        if parts.scheme not in ("http", "https") or not parts.hostname:
            raise VolSegError(
                f"{address!r} is not the address of a server: expected one such as "
                "http://localhost:8000."
            )
        self._address = address.strip().rstrip("/")
        self._headers = {"Authorization": f"Bearer {token.strip()}"} if token.strip() else {}
        handlers: list[urllib.request.BaseHandler] = [_NoRedirects(), _Plainly(), _Securely()]
        if parts.hostname in _LOOPBACK:
            handlers.append(urllib.request.ProxyHandler({}))
        self._opener = urllib.request.build_opener(*handlers)

    def bundles(self) -> Steps[list[Bundle]]:
        """Step until the bundles are listed."""
        rows = yield from in_background(self._ask, "GET", "/v1/bundles")
        return read_bundles(rows)

    def segment(
        self, bundle: Bundle, images: Mapping[str, Path], folder: Path, options: Mapping[str, str]
    ) -> Steps[Result]:
        """Step until images are segmented there, and return the label map and remarks on it.

        The images and the result are removed from the server in the end, however it comes.

        Args:
            bundle: one of `bundles`.
            images: files by channel.
            folder: where the label map goes.
            options: not used: how a server segments is its own affair.

        Raises:
            VolSegError: what the server says.
        """
        del options
        form = _Form({"bundle": bundle.reference}, _parts(images))
        job = yield from self._submit(form)
        path = _job_path(job)
        try:
            yield from self._wait(path)
            target = folder / "labels.nii.gz"
            yield Progress("receiving")
            yield from in_background(self._fetch, f"{path}/result?format=nifti", target)
            record = yield from in_background(self._ask, "GET", f"{path}/record")
            return Result(target, read_remarks(record["quality"]["flags"]))
        finally:
            self._forget(path)

    def _submit(self, form: _Form) -> Steps[Any]:
        """Step until a job is submitted; no job stays if that is cancelled."""

        def submit() -> Any:
            job = self._ask("POST", "/v1/jobs", form)
            if form.cancelled:  # too late to be stopped on its way
                self._forget(_job_path(job))
            return job

        sending = in_background(submit)
        try:
            while True:
                try:
                    next(sending)
                except StopIteration as end:
                    return end.value
                yield Progress("sending", form.sent, form.size)
                yield None
        except GeneratorExit:
            form.cancelled = True
            raise

    def _wait(self, path: str) -> Steps[None]:
        """Step until a job is done."""
        while True:
            job = yield from in_background(self._ask, "GET", path)
            if job["state"] == "done":
                return
            if job["state"] in ("failed", "cancelled"):
                raise VolSegError(job.get("error") or "the job was cancelled on the server.")
            stage = "waiting" if job["state"] == "queued" else "segmenting"
            yield Progress(stage, job["progress"]["done"], job["progress"]["total"] or None)
            asked = time.monotonic()
            while time.monotonic() - asked < _SECONDS_BETWEEN_QUESTIONS:
                time.sleep(0.02)
                yield None

    def _forget(self, path: str) -> None:
        """Cancel a job that runs, and remove it when it has ended, while others work on."""

        def forget() -> None:
            for _ in range(_TRIES_TO_FORGET):
                try:
                    self._ask("DELETE", path)
                except VolSegError:  # it is gone, or the server is
                    return
                time.sleep(_SECONDS_BETWEEN_QUESTIONS)

        threading.Thread(target=forget, daemon=True).start()

    def _fetch(self, path: str, target: Path) -> None:
        with self._answer("GET", path) as answer:
            content = answer.read()
        try:
            target.write_bytes(content)
        except OSError as error:
            raise VolSegError(f"{target} cannot be written: {error.strerror}.") from error

    def _ask(self, method: str, path: str, form: _Form | None = None) -> Any:
        with self._answer(method, path, form) as answer:
            content = answer.read()
        try:
            return json.loads(content)
        except ValueError as error:
            raise VolSegError(f"{self._address} answers something else: is it volseg?") from error

    @contextlib.contextmanager
    def _answer(self, method: str, path: str, form: _Form | None = None) -> Iterator[Any]:
        request = urllib.request.Request(  # noqa: S310 - http or https: see __init__
            self._address + path,
            data=form,  # type: ignore[arg-type] # any iterable of bytes
            method=method,
            headers={**self._headers, **(form.headers if form else {})},
        )
        try:
            with self._opener.open(request, timeout=_SECONDS_TO_ANSWER) as answer:
                yield answer
        except urllib.error.HTTPError as error:
            raise VolSegError(_refusal(self._address, error)) from error
        except (OSError, http.client.HTTPException) as error:
            reason = getattr(error, "reason", None) or error
            raise VolSegError(f"{self._address} cannot be reached: {reason}.") from error


class _Form:
    """A multipart form that reads its files as it is sent, and knows how much has been sent."""

    def __init__(self, fields: Mapping[str, str], files: Sequence[tuple[str, Path]]) -> None:
        boundary = secrets.token_hex(16)
        disposition = 'Content-Disposition: form-data; name="'
        self._parts: list[bytes | Path] = [
            f'--{boundary}\r\n{disposition}{name}"\r\n\r\n{value}\r\n'.encode()
            for name, value in fields.items()
        ]
        for name, path in files:
            quoted = name.replace('"', "%22")  # as browsers do
            head = f'--{boundary}\r\n{disposition}{quoted}"; filename="{path.name}"\r\n'
            kind = "Content-Type: application/octet-stream\r\n\r\n"
            self._parts += [(head + kind).encode(), path, b"\r\n"]
        self._parts.append(f"--{boundary}--\r\n".encode())
        self.sent = 0
        self.cancelled = False
        self.size = sum(
            part.stat().st_size if isinstance(part, Path) else len(part) for part in self._parts
        )
        self.headers = {
            "Content-Type": f"multipart/form-data; boundary={boundary}",
            "Content-Length": str(self.size),
        }

    def __iter__(self) -> Iterator[bytes]:
        for part in self._parts:
            for block in _blocks(part) if isinstance(part, Path) else [part]:
                if self.cancelled:
                    raise OSError("cancelled")
                yield block
                self.sent += len(block)


def _job_path(job: Mapping[str, Any]) -> str:
    return f"/v1/jobs/{urllib.parse.quote(job['id'], safe='')}"


def _blocks(path: Path) -> Iterator[bytes]:
    with path.open("rb") as file:
        while block := file.read(_BLOCK):
            yield block


def _parts(images: Mapping[str, Path]) -> list[tuple[str, Path]]:
    if len(images) == 1:
        return [("image", path) for path in images.values()]
    return [(f"channel:{name}", path) for name, path in images.items()]


def _refusal(address: str, error: urllib.error.HTTPError) -> str:
    """Return the sentence of a server that refuses."""
    with error:
        try:
            detail = json.loads(error.read())["detail"]
        except (OSError, ValueError, KeyError, TypeError):
            detail = None
    if error.code == 401:
        return f"{address} asks for a token: enter the one that the server was started with."
    if isinstance(detail, str) and detail:
        return detail
    return f"{address} refuses: {error.code} {error.reason}."
