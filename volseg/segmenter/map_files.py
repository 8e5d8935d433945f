"""The files that maps beside the label map are written to."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import ExitStack, contextmanager
from pathlib import Path

from volseg.inference import Target
from volseg.io import StoredVolume, map_target, probabilities_target
from volseg.segmenter.streamed import Maps


@contextmanager
def open_maps(
    volume: StoredVolume,
    *,
    classes: int,
    probabilities: str | Path | Target | None,
    entropy: str | Path | None,
    disagreement: str | Path | None,
) -> Iterator[Maps]:
    """Give the maps that are wanted, to be filled block by block.

    Their files appear whole when the block ends, and not at all if it fails.

    Args:
        volume: Whose grid they are on.
        classes: Channels of the probabilities.
        probabilities: Path, or an array that takes them.
        entropy: Path.
        disagreement: Path.

    Yields:
        The maps.

    Raises:
        InputError: The ending of a path is not known.
        OutputError: There is no room, or a file cannot be written.
    """
    with ExitStack() as files:

        def opened(path: str | Path | None) -> Target | None:
            return None if path is None else files.enter_context(map_target(path, like=volume))

        if isinstance(probabilities, str | Path):
            file = probabilities_target(probabilities, like=volume, classes=classes)
            probabilities = files.enter_context(file)
        yield Maps(probabilities, opened(entropy), opened(disagreement))
