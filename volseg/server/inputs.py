"""From what a client has sent to the input of a job."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path

from volseg.errors import InputError
from volseg.server.content import ZIP, suffix_of_content
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


def place_inputs(
    files: Sequence[tuple[str, Path]], folder: Path, channels: list[str], limits: Limits
) -> dict[str, str]:
    """Make the input of a job of the file parts of a form.

    Args:
        files: one part `image`, or one `channel:NAME` for each channel, and where they lie.
        folder: of the job.
        channels: of the bundle.
        limits: of the server.

    Returns:
        The path in the folder by channel, of a single image under `image`.

    Raises:
        InputError: a part is missing, unknown or given twice, or its content cannot be used.
    """
    parts = [name.removeprefix(_CHANNEL) for name, _ in files]
    if len(set(parts)) < len(parts):
        raise InputError("two files were sent for one channel: send one for each.")
    expected = channels if len(channels) > 1 and parts != ["image"] else ["image"]
    known = {name.casefold(): name for name in expected}
    parts = [known.get(part.casefold(), part) for part in parts]
    if sorted(parts) != sorted(expected):
        raise InputError(
            f"files were sent for {', '.join(parts)[:200] or 'nothing'}, but this bundle takes "
            f"{', '.join(expected)}: send a part 'image', or of several channels one part "
            "'channel:NAME' for each."
        )
    placed = {}
    for number, (name, (_, received)) in enumerate(zip(parts, files, strict=True)):
        path = place_image(received, folder / "input", f"image{number}", limits)
        placed[name] = path.relative_to(folder).as_posix()
    return placed
