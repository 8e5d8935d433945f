"""Weights to and from files, without executing anything a file holds."""

from __future__ import annotations

import io
from collections.abc import Mapping
from pathlib import Path
from typing import IO, Any, BinaryIO, cast

import torch
from torch import Tensor, nn

from volseg.atomic import replacing
from volseg.errors import BundleError, OutputError


def save_weights(network: nn.Module, path: str | Path, *, dtype: torch.dtype | None = None) -> None:
    """Write the plain state dictionary of ``network``; an interrupted write leaves nothing.

    Args:
        network: The network.
        path: File to write.
        dtype: Type to store floating-point weights as; ``torch.float16`` halves the file and
            rounds them to three decimal digits. A network loads them in its own type.

    Raises:
        OutputError: The file could not be written, or ``dtype`` cannot hold a value.
    """
    state = {
        name: value.detach().cpu().to((value.is_floating_point() and dtype) or value.dtype)
        for name, value in network.state_dict().items()
    }
    for name, value in network.state_dict().items():
        if value.isfinite().all() and not state[name].isfinite().all():
            raise OutputError(
                f"{name} holds values up to {value.abs().max():g}, too large for {dtype}: store "
                "the weights without another type."
            )
    save_tensors(state, path)


def save_tensors(state: object, path: str | Path) -> None:
    """Write what ``torch.save`` writes, whole or not at all.

    Raises:
        OutputError: The file could not be written.
    """
    with replacing(path) as temporary, temporary.open("wb") as stream:
        target = _Target(stream)
        try:
            torch.save(state, cast(IO[bytes], target))
        except RuntimeError:  # of torch, which says nothing of a full disk
            if target.error is not None:
                raise target.error from None
            raise


class _Target(io.RawIOBase):
    """A file that knows why it could not be written."""

    def __init__(self, stream: BinaryIO) -> None:
        super().__init__()
        self._stream = stream
        self.error: OSError | None = None

    def writable(self) -> bool:
        """Return that it is."""
        return True

    def write(self, data: Any) -> int:
        """Write to the file, and keep the reason where that fails."""
        try:
            return self._stream.write(data)
        except OSError as error:
            self.error = self.error or error
            raise

    def flush(self) -> None:
        """Flush the file, likewise."""
        try:
            self._stream.flush()
        except OSError as error:
            self.error = self.error or error
            raise


def read_weights(path: str | Path) -> dict[str, Tensor]:
    """Return the state dictionary in ``path``, loaded with ``weights_only=True``.

    Raises:
        BundleError: The file is missing, damaged, or holds anything but named tensors.
    """
    path = Path(path)
    if not path.is_file():
        raise BundleError(f"there are no weights at {path}: train the bundle or copy them there.")
    try:
        state = torch.load(path, map_location="cpu", weights_only=True)
    except Exception as error:  # torch raises half a dozen unrelated types here
        raise BundleError(
            f"{path} is not a plain state dictionary of tensors that can be loaded safely "
            f"({type(error).__name__}); it may be damaged or hold pickled code."
        ) from error
    if not isinstance(state, Mapping) or not all(isinstance(v, Tensor) for v in state.values()):
        raise BundleError(f"{path} holds a {type(state).__name__}, expected names and tensors.")
    return dict(state)


def load_weights(network: nn.Module, path: str | Path) -> nn.Module:
    """Load the weights in ``path`` into ``network`` and return it.

    Raises:
        BundleError: The file cannot be read or belongs to another network.
    """
    state = read_weights(path)
    own = network.state_dict()
    missing = sorted(own.keys() - state.keys())
    unexpected = sorted(state.keys() - own.keys())
    resized = sorted(n for n in own.keys() & state.keys() if own[n].shape != state[n].shape)
    for what, names in (("lacks", missing), ("has unknown", unexpected), ("resizes", resized)):
        if names:
            raise BundleError(
                f"the weights in {path} do not belong to this {type(network).__name__}: the file "
                f"{what} {len(names)} of {len(own)} tensors (first: {names[0]!r}); build the "
                "network with the options it was trained with."
            )
    network.load_state_dict(state)
    return network
