"""NiiVue, the viewer of reports: fetched when asked for, checked, and kept for this user."""

from __future__ import annotations

import base64
import hashlib
import io
import tarfile
import urllib.error
import urllib.request
from pathlib import Path

import platformdirs

from volseg.atomic import write_together
from volseg.errors import InputError, ServerError

VERSION = "0.69.0"
ADDRESS = f"https://registry.npmjs.org/@niivue/niivue/-/niivue-{VERSION}.tgz"
_SHA512 = "YMjQvJgD1W2b7DuoxkwlC4VxbrgIePRJ5qyQzXKxi2v2MBVg285P/CIQyg46oDDGDIcaNlbd+MhtO/edMbXJkA=="
_SCRIPT = "niivue.umd.js"
# The script, and what states its author and licence (BSD-2-Clause).
_WANTED = {_SCRIPT: f"package/dist/{_SCRIPT}", "package.json": "package/package.json"}
_MOST_BYTES = 50_000_000
_SECONDS = 60


def viewer_folder() -> Path:
    """Return where the viewer is kept: in the user's data folder."""
    return platformdirs.user_data_path("volseg", appauthor=False) / f"niivue-{VERSION}"


def find_viewer() -> Path | None:
    """Return the script of the viewer, if it was fetched."""
    script = viewer_folder() / _SCRIPT
    return script if script.is_file() else None


def fetch_viewer() -> Path:
    """Fetch the viewer from the npm registry, and return its script; kept if it is there already.

    Raises:
        ServerError: The registry cannot be reached, or gives something else than this version.
        OutputError: The files cannot be written.
    """
    found = find_viewer()
    if found is not None:
        return found
    try:
        with urllib.request.urlopen(ADDRESS, timeout=_SECONDS) as answer:
            packed = answer.read(_MOST_BYTES)
    except (urllib.error.URLError, TimeoutError, ConnectionError) as error:
        raise ServerError(
            f"the viewer cannot be fetched from {ADDRESS} ({error}): fetch {_SCRIPT} of NiiVue "
            f"{VERSION} elsewhere and give it with --viewer."
        ) from error
    write_together(
        {viewer_folder() / name: text for name, text in reversed(_unpacked(packed).items())}
    )
    return viewer_folder() / _SCRIPT


def read_viewer(path: Path) -> str:
    """Return the script of a viewer, fit to be part of a page.

    Raises:
        InputError: The file cannot be read, or is not NiiVue.
    """
    try:
        script = path.read_text(encoding="utf-8")
    except (OSError, UnicodeDecodeError) as error:
        raise InputError(f"the viewer {path} cannot be read ({error}).") from error
    if "niivue" not in script:
        raise InputError(f"the viewer {path} is not NiiVue: expected its {_SCRIPT}.")
    return script.replace("</script", "<\\/script")  # would end the script in the page


def _unpacked(packed: bytes) -> dict[str, str]:
    digest = base64.b64encode(hashlib.sha512(packed).digest()).decode("ascii")
    if digest != _SHA512:
        raise ServerError(
            f"what {ADDRESS} gives is not NiiVue {VERSION}: its SHA-512 is {digest}, expected "
            f"{_SHA512}; it was not kept."
        )
    texts = {}
    with tarfile.open(fileobj=io.BytesIO(packed), mode="r:gz") as archive:
        for name, member in _WANTED.items():
            file = archive.extractfile(member)
            assert file is not None  # of this digest
            texts[name] = file.read().decode("utf-8")
    return texts
