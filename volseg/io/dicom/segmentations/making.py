"""Making of DICOM objects with highdicom: what goes wrong becomes one sentence."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager

from volseg.errors import InputError, MissingPackageError
from volseg.io.dicom.files import without_pydicom_warnings
from volseg.io.dicom.segmentations.source import SourceSlices


@contextmanager
def making(what: str, source: SourceSlices) -> Iterator[None]:
    """Give a block in which highdicom makes an object for a series.

    Args:
        what: the object, such as "DICOM SEG".
        source: the series.

    Raises:
        InputError: if the headers of the series do not allow it.
        MissingPackageError: if highdicom is not installed.
    """
    try:
        import highdicom  # noqa: F401, PLC0415 - an optional package, asked for when it is needed
    except ImportError as error:
        raise MissingPackageError(f"writing {what}", "highdicom", "dicom") from error

    try:
        with without_pydicom_warnings():
            yield
    except (AttributeError, TypeError, ValueError) as error:
        raise InputError(
            f"cannot make a {what} of the series {source.headers[0].SeriesInstanceUID}: its "
            f"headers do not allow it ({error}); export the series again."
        ) from error
