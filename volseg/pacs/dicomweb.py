"""DICOMweb: QIDO-RS, WADO-RS and STOW-RS (PS3.18), an instance a request, some at once.

The requests are those of `dicomweb_client`. What it leaves open is settled here: an answer that was
cut off is not taken for a whole one, and nothing in it is believed before it is looked at.
"""

from __future__ import annotations

import contextlib
import re
import warnings
from collections.abc import Callable, Iterator, Mapping, Sequence
from functools import partial
from typing import TYPE_CHECKING, Any
from urllib.parse import urljoin, urlsplit

from volseg.errors import MissingPackageError, ServerError
from volseg.pacs.address import Address
from volseg.pacs.credentials import Credentials
from volseg.pacs.in_flight import answers_in_order
from volseg.pacs.server import Instance, Level, Outgoing
from volseg.pacs.tls import Tls, not_encrypted

if TYPE_CHECKING:
    import requests
    from pydicom import Dataset

_PAGE = 100
_AT_ONCE = 4  # requests for instances
_IN_ONE_PIECE = 2**62
# Codes of PS3.18, 8.5, and of proxies, that say nothing about the request itself.
_PASSING = (408, 425, 429, 500, 502, 503, 504)


class DicomWeb:
    """A DICOMweb server.

    Args:
        address: where it is.
        credentials: sent with every request, and to no other host.
        tls: certificates; the server's is always verified.
        timeout: seconds that the server may be silent.

    Raises:
        MissingPackageError: if `dicomweb_client` is not installed.
    """

    def __init__(
        self,
        address: Address,
        *,
        credentials: Credentials,
        tls: Tls,
        timeout: float = 30.0,
    ) -> None:
        try:
            from dicomweb_client import DICOMwebClient  # noqa: PLC0415 - an optional package
        except ImportError as error:
            raise MissingPackageError("DICOMweb", "dicomweb-client", "pacs") from error
        self.name = str(address)
        self._timeout = timeout
        self._client = DICOMwebClient(
            address.url,
            session=_session(address.url, credentials, tls),
            callback=_require_all_of_it,
            # Chunked requests are refused by some servers.
            chunk_size=_IN_ONE_PIECE,
            timeout=timeout,
        )
        self._client.set_http_retry_params(retry=False)  # `volseg.pacs` tries again, and says so

    def echo(self) -> None:
        """Ask for one study, which needs all that a search needs."""
        with self._asking("search"):
            self._client.search_for_studies(limit=1)

    def find(
        self, level: Level, keys: Mapping[str, str], returned: Sequence[str]
    ) -> Iterator[dict[str, str]]:
        """Search page by page (QIDO-RS), as in `Server.find`."""
        conditions = {keyword: _plain(value) for keyword, value in keys.items()}
        above: dict[str, str] = {}
        if level in ("SERIES", "IMAGE") and "StudyInstanceUID" in conditions:
            above["study_instance_uid"] = conditions.pop("StudyInstanceUID")
        if level == "IMAGE":
            above["series_instance_uid"] = conditions.pop("SeriesInstanceUID")
        search = {
            "STUDY": self._client.search_for_studies,
            "SERIES": self._client.search_for_series,
            "IMAGE": self._client.search_for_instances,
        }[level]
        seen: set[str] = set()
        offset = 0
        while True:
            with self._asking("search"):
                page = search(
                    **above,
                    fields=list(returned),
                    limit=_PAGE,
                    offset=offset,
                    search_filters=conditions or None,
                )
                rows = [_texts(match, (*keys, *returned)) for match in page]
            new = [row for row in rows if str(row) not in seen]
            yield from new
            # A server may give fewer than asked for although there are more, and one that knows no
            # offset gives the same again.
            if not new:
                return
            seen.update(str(row) for row in new)
            offset += len(rows)

    def fetch(self, instances: Sequence[Instance], receive: Callable[[Dataset], None]) -> None:
        """Retrieve instances as they are stored (WADO-RS), as in `Server.fetch`."""
        retrieve = self._client.retrieve_instance
        requests = (partial(retrieve, one.study, one.series, one.uid) for one in instances)
        answers = answers_in_order(requests, at_once=_AT_ONCE)
        failure: ServerError | None = None
        for instance, answer in zip(instances, answers, strict=False):
            try:
                with self._asking("retrieval", instance.uid):
                    dataset = answer.result()
            except ServerError as error:  # raised once those on their way are there
                failure = failure or error
            else:
                receive(dataset)
        if failure is not None:
            raise failure

    def push(
        self, files: Sequence[Outgoing], report: Callable[[Outgoing, str | None], None]
    ) -> None:
        """Store instances (STOW-RS), as in `Server.push`."""
        for file in files:
            dataset = file.load()
            with self._asking("storage", file.instance.uid):
                try:
                    refused = _refusal(self._client.store_instances([dataset]), file.instance.uid)
                except Exception as error:
                    refused = _conflict(error, file.instance.uid)
                    if refused is None:
                        raise
            report(file, refused)

    @contextlib.contextmanager
    def _asking(self, what: str, uid: str = "") -> Iterator[None]:
        """Turn whatever goes wrong between the client and the server into one sentence."""
        import requests  # noqa: PLC0415 - comes with `dicomweb_client`

        subject = f"the {what} of {uid}" if uid else f"the {what}"
        try:
            # Warnings about how well a server keeps the rules are for its makers.
            with warnings.catch_warnings():
                warnings.simplefilter("ignore")
                yield
        except requests.HTTPError as error:
            raise self._refused(error.response, subject) from None
        except requests.exceptions.SSLError as error:
            raise not_encrypted(self.name, _innermost(error)) from None
        except requests.Timeout:
            raise ServerError(
                f"{self.name} did not answer the {what} within {self._timeout:g} s; try again, or "
                "allow more with --timeout.",
                passing=True,
            ) from None
        except requests.JSONDecodeError:
            raise ServerError(
                f"{self.name} answered {subject} with something that is not DICOM JSON: is this "
                "the root of its DICOMweb service?"
            ) from None
        except (requests.ConnectionError, requests.exceptions.ChunkedEncodingError) as error:
            raise ServerError(
                f"the connection to {self.name} failed during {subject}: {_cause(error)}.",
                passing=True,
            ) from None
        except requests.RequestException as error:
            raise ServerError(
                f"{self.name} cannot be asked ({type(error).__name__}): check its address."
            ) from None
        except ServerError as error:
            raise ServerError(f"{self.name}: {error}", passing=error.passing) from None
        except MemoryError:
            raise
        except Exception as error:
            # The client believes what it is sent, so that garbage makes it fail in many ways.
            raise ServerError(
                f"{self.name} answered {subject} with something that is not DICOM "
                f"({type(error).__name__}): is this the root of its DICOMweb service?"
            ) from error

    def _refused(self, response: requests.Response, subject: str) -> ServerError:
        code = response.status_code
        hint = {
            401: "give a token or a password that it takes (--token, --user and --password)",
            403: "these credentials are not enough for it",
            404: "it does not have it, or this is not the root of its DICOMweb service",
        }.get(code, "its log says more")
        reason = f" {response.reason}" if response.reason else ""
        return ServerError(
            f"{self.name} refused {subject} with HTTP status {code}{reason}: {hint}.",
            passing=code in _PASSING,
        )


def _session(url: str, credentials: Credentials, tls: Tls) -> requests.Session:
    """Return a session that takes secrets and certificates from its arguments only."""
    import requests  # noqa: PLC0415 - comes with `dicomweb_client`

    class _Bearer(requests.auth.AuthBase):
        def __call__(self, request: requests.PreparedRequest) -> requests.PreparedRequest:
            request.headers["Authorization"] = f"Bearer {credentials.token}"
            return request

    class _Session(requests.Session):
        def prepare_request(self, request: requests.Request) -> requests.PreparedRequest:
            # The client sets the header without the port; HTTP says it belongs there.
            if request.headers is not None:
                request.headers.pop("Host", None)
            prepared = super().prepare_request(request)
            # Legal as they are (RFC 3986, 3.4), and some servers take no other wildcards.
            path, mark, query = (prepared.url or "").partition("?")
            prepared.url = path + mark + query.replace("%2A", "*").replace("%3F", "?")
            return prepared

        def get_redirect_target(self, resp: requests.Response) -> str | None:
            # Who is asked is who was named: a server may not choose whom else this side calls.
            target: str | None = super().get_redirect_target(resp)
            if target is not None:
                there = urlsplit(urljoin(resp.url, target))
                if there[:2] != urlsplit(resp.url)[:2]:
                    raise ServerError(
                        f"it sends this side on to {there.scheme}://{there.netloc}: name that "
                        "server if you trust it."
                    )
            return target

    session = _Session()
    # Compressing pixels takes servers several times longer than sending them.
    session.headers["Accept-Encoding"] = "identity"
    # .netrc and REQUESTS_CA_BUNDLE would go before what was given; proxies are wanted.
    session.trust_env = False
    session.proxies = requests.utils.get_environ_proxies(url)
    session.verify = tls.ca_file or True
    if tls.certificate is not None:
        files = (tls.certificate, tls.private_key)
        session.cert = files if tls.private_key is not None else tls.certificate
    if credentials.token is not None:
        session.auth = _Bearer()
    elif credentials.user is not None and credentials.password is not None:
        # As bytes: requests would encode text as Latin-1, servers read UTF-8 (RFC 7617).
        session.auth = (credentials.user.encode(), credentials.password.encode())
    return session


def _require_all_of_it(response: requests.Response, **_: Any) -> None:
    """Refuse a multipart answer without the boundary at its end: the connection broke off.

    Where the server states no length, HTTP itself cannot tell.
    """
    kind, _, parameters = response.headers.get("Content-Type", "").partition(";")
    if kind.strip().lower() != "multipart/related" or not response.ok:
        return
    for parameter in parameters.split(";"):
        name, _, value = parameter.strip().partition("=")
        if name.lower() == "boundary" and value:
            boundary = value.strip('"').encode()
            if not response.content.rstrip().endswith(b"--" + boundary + b"--"):
                raise ServerError("the answer was cut off before its end", passing=True)


def _plain(value: str) -> str:
    """Return a condition that needs no percent-encoding, which some servers do not undo.

    Wildcards stand for other characters; `SeriesQuery.matches` looks at what comes back again.
    """
    value = re.sub(r"[^ -~]+", "*", value)
    return re.sub(r"[^A-Za-z0-9._~*-]", "?", value)


def _texts(match: dict[str, Any], keywords: Sequence[str]) -> dict[str, str]:
    """Return a match in DICOM JSON (PS3.18, F.2) as keyword to text."""
    from pydicom import Dataset  # noqa: PLC0415 - an optional package
    from pydicom.datadict import tag_for_keyword  # noqa: PLC0415

    texts = {}
    for keyword in keywords:
        key = f"{tag_for_keyword(keyword):08X}"
        if key in match:
            value = Dataset.from_json({key: match[key]})[keyword].value
            if value not in (None, "", []):
                texts[keyword] = str(value)
    return texts


def _refusal(answer: Dataset, uid: str) -> str | None:
    """Return why an instance was not stored, None if it was (PS3.18, 10.5.3)."""
    for item in answer.get("FailedSOPSequence") or ():
        reason = item.get("FailureReason")
        return "it gives no reason" if reason is None else f"failure reason {reason:#06x}"
    stored = {
        str(item.ReferencedSOPInstanceUID) for item in answer.get("ReferencedSOPSequence", ())
    }
    if uid not in stored:
        raise ServerError(f"it does not say that it stored {uid}: look whether it did")
    return None


def _conflict(error: Exception, uid: str) -> str | None:
    """Return why an instance was refused where the answer is a list of refusals (409)."""
    from pydicom import Dataset  # noqa: PLC0415 - an optional package

    response = getattr(error, "response", None)
    if response is None or response.status_code not in (400, 409, 415):
        return None
    with contextlib.suppress(Exception):
        return _refusal(Dataset.from_json(response.json()), uid)
    return f"HTTP status {response.status_code}"


def _cause(error: BaseException) -> str:
    """Return the words of the innermost reason; requests wraps them in addresses of objects."""
    error = _innermost(error)
    reason = getattr(error, "strerror", None)
    return str(reason or error or type(error).__name__).rstrip(".")


def _innermost(error: BaseException) -> BaseException:
    while True:
        inner = error.__cause__ or error.__context__ or getattr(error, "reason", None)
        if inner is None and error.args and isinstance(error.args[0], BaseException):
            inner = error.args[0]
        if not isinstance(inner, BaseException):
            return error
        error = inner
