"""From what a client has sent to the input of a job."""

from __future__ import annotations

from pathlib import Path

from volseg.errors import InputError, UnknownNameError
from volseg.server.content import ZIP, suffix_of_content
from volseg.server.receiving import Form
from volseg.server.settings import Limits
from volseg.server.unpacking import unpack_dicom

_CHANNEL = "channel:"


def place_image(received: Path, folder: Path, name: str, limits: Limits) -> Path:
    """Move one file to where it stays; a zip becomes a folder of DICOM files.

    Args:
        received: what was uploaded.
        folder: where it goes; made if missing.
        name: without suffix, of ours and not of the client.
        limits: of the server.

    Returns:
        The path of the image.

    Raises:
        InputError: it is of no known format, or not safe.
    """
    folder.mkdir(parents=True, exist_ok=True)
    suffix = suffix_of_content(received, most_bytes=limits.unpacked_bytes)
    if suffix != ZIP:
        return received.rename(folder / f"{name}{suffix}")
    unpack_dicom(received, folder / name, most_files=limits.files, most_bytes=limits.unpacked_bytes)
    received.unlink()
    return folder / name


def place_inputs(form: Form, folder: Path, channels: list[str], limits: Limits) -> dict[str, str]:
    """Make the input of a job of the file parts of a form.

    Args:
        form: with one part `image`, or one `channel:NAME` for each channel.
        folder: of the job; the parts lie in it.
        channels: of the bundle.
        limits: of the server.

    Returns:
        The path in the folder by channel, of a single image under `image`.

    Raises:
        InputError: a part is missing, unknown or given twice, or its content cannot be used.
    """
    parts = [name.removeprefix(_CHANNEL) for name, _ in form.files]
    if len(set(parts)) < len(parts):
        raise InputError("two files were sent for one channel: send one for each.")
    expected = channels if len(channels) > 1 and parts != ["image"] else ["image"]
    for part in parts:
        if part not in expected:
            raise UnknownNameError("file part", part, expected)
    missing = [name for name in expected if name not in parts]
    if missing:
        raise InputError(
            f"no file was sent for {', '.join(missing)}: expected a part 'image', or one part "
            "'channel:NAME' for each channel of the bundle."
        )
    placed = {}
    for number, (name, (_, received)) in enumerate(zip(parts, form.files, strict=True)):
        path = place_image(received, folder / "input", f"image{number}", limits)
        placed[name] = path.relative_to(folder).as_posix()
    return placed
