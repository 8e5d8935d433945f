"""Options of what is written for each case: see `given`."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Annotated

from volseg.atomic import require_writable_folder
from volseg.cli.console import errors
from volseg.cli.lists import words
from volseg.cli.option_groups import options_under
from volseg.errors import InputError

if TYPE_CHECKING:
    from volseg.segmenter import Segmenter

_option = options_under("Results")
_PICTURE = "dicom-preview"
PICTURES = ("preview", _PICTURE)
"""Files that show the label map, among those of `Results.files`."""


@dataclass(frozen=True)
class Results:
    """What is written for each case, and where.

    Attributes:
        folder: all files of all cases lie in it.
        formats: as `RESULT_FORMATS` names them, and dicom-preview.
        stable_uids: whether the same image and bundle give the same DICOM files.
        preview: whether a picture is written, too.
        probabilities: suffix of the file of class probabilities, if there is to be one.
        uncertainty: likewise of the maps of uncertainty.
        statistics: whether the statistics of all cases in the folder are written as tables, too.
        skip_existing: whether cases are left as they are whose results, all that are asked for,
            are there, of the same image, bundles and settings.
    """

    folder: Path
    formats: list[str]
    stable_uids: bool
    preview: bool
    probabilities: str | None
    uncertainty: str | None
    statistics: bool
    skip_existing: bool

    def require_possible(self, segmenter: Segmenter) -> None:
        """Refuse what cannot be written for any case, before one is run.

        Raises:
            InputError: if a format is not known or does not hold what it is to hold, or there are
                no probabilities.
            OutputError: if no file can be made in the folder.
        """
        dims = segmenter.bundle.spatial_dims
        for word, wanted in (("--preview", self.preview), (_PICTURE, _PICTURE in self.formats)):
            if wanted and segmenter.memory_budget is not None:
                raise InputError(f"{word} holds the whole image: leave it out with --memory.")
            if wanted and "nifti" not in self.formats:
                raise InputError(f"{word} shows the label map: add nifti to --format.")
        files = self.files("case", dims)
        if self.probabilities or self.uncertainty or "dicom-probabilities" in files:
            segmenter.require_probabilities()
        if self.probabilities is not None and "dicom-probabilities" in files:
            raise InputError(
                "--probabilities and the format dicom-probabilities are the same values: ask for "
                "one of them; `volseg convert` makes the other."
            )
        if dims == 2 and _PICTURE in files:
            raise InputError("dicom-preview belongs to a DICOM series: it needs volumes.")
        _require_map_suffix("--probabilities", self.probabilities, dims)
        _require_map_suffix("--uncertainty", self.uncertainty, dims)
        require_writable_folder(self.folder)

    def files(self, case: str, spatial_dims: int) -> dict[str, Path]:
        """Return the file of the result in each format, and of the picture.

        Raises:
            InputError: if a format is not known, or cannot be had.
        """
        from volseg.segmenter import RESULT_FORMATS, result_files

        known = [*RESULT_FORMATS, _PICTURE]
        unknown = [name for name in self.formats if name not in known]
        if unknown:
            raise InputError(
                f"the format {', '.join(unknown)!r} is not known; expected some of "
                f"{', '.join(known)}."
            )
        formats = [name for name in self.formats if name != _PICTURE]
        files = result_files(self.folder, case, formats, spatial_dims=spatial_dims)
        if _PICTURE in self.formats:
            files[_PICTURE] = self.folder / f"{case}_preview.dcm"
        if self.preview:
            files["preview"] = self.folder / f"{case}_preview.png"
        return files

    def record(self, case: str) -> Path:
        """Return the file of the record of a case."""
        from volseg.segmenter import RECORD_SUFFIX

        return self.folder / f"{case}{RECORD_SUFFIX}"

    def write_statistics(self) -> None:
        """Write the tables of all cases that have a record in the folder, of whichever run.

        What cannot be read as a record is said and left out.

        Raises:
            OutputError: if a table cannot be written.
        """
        from volseg.report import write_statistics
        from volseg.segmenter import RECORD_SUFFIX, read_record

        found = {}
        for path in sorted(self.folder.glob(f"[!.]*{RECORD_SUFFIX}")):
            try:
                found[path.name.removesuffix(RECORD_SUFFIX)] = read_record(path).statistics.labels
            except InputError as error:
                errors.print(f"not in the statistics: {error}", soft_wrap=True, markup=False)
        if not found:  # every case failed: a table without a row would look like a result
            return
        for suffix in (".csv", ".json"):
            write_statistics(found, self.folder / f"statistics{suffix}")

    def maps(self, case: str, passes: int) -> dict[str, Path]:
        """Return the files of probabilities, entropy and (of several passes) disagreement."""
        suffixes = {
            "probabilities": self.probabilities,
            "entropy": self.uncertainty,
            "disagreement": self.uncertainty if passes > 1 else None,
        }
        return {
            name: self.folder / f"{case}_{name}{suffix}"
            for name, suffix in suffixes.items()
            if suffix is not None
        }


def results(
    out: Annotated[Path, _option("--output", "-o", help="Folder for the label maps.")],
    formats: Annotated[
        str,
        _option(
            "--format",
            help="Of the result, some of: nifti, dicom-seg, dicom-labelmap, dicom-probabilities, "
            "rtstruct, sr, dicom-preview.",
        ),
    ] = "nifti",
    stable_uids: Annotated[
        bool,
        _option("--stable-uids", help="The same image and bundle give the same DICOM files."),
    ] = False,
    preview: Annotated[
        bool, _option("--preview", help="Also write OUT/<case>_preview.png.")
    ] = False,
    probabilities: Annotated[
        str | None,
        _option(help="Also write OUT/<case>_probabilities: nii.gz, nii or zarr."),
    ] = None,
    uncertainty: Annotated[
        str | None,
        _option(help="Also write OUT/<case>_entropy (and _disagreement): nii.gz, nii, zarr."),
    ] = None,
    statistics: Annotated[
        bool,
        _option(
            "--statistics",
            "-s",
            help="Also write OUT/statistics.csv and .json, of all cases in OUT: volumes, "
            "intensities.",
        ),
    ] = False,
    skip_existing: Annotated[
        bool,
        _option(
            "--skip-existing",
            help="Leave cases whose results are there, of the same image, bundle and settings.",
        ),
    ] = False,
) -> Results:
    """Return what the options say."""
    return Results(
        folder=out,
        formats=words(formats),
        stable_uids=stable_uids,
        preview=preview,
        probabilities=_suffix(probabilities),
        uncertainty=_suffix(uncertainty),
        statistics=statistics,
        skip_existing=skip_existing,
    )


def _suffix(text: str | None) -> str | None:
    return None if text is None else f".{text.lstrip('.')}"


def _require_map_suffix(option: str, suffix: str | None, dims: int) -> None:
    known = (".nii.gz", ".nii", ".zarr") if dims == 3 else (".zarr",)
    if suffix is not None and suffix not in known:
        names = ", ".join(name.lstrip(".") for name in known)
        raise InputError(
            f"{option} {suffix.lstrip('.')!r} cannot hold {dims}D maps: expected {names}."
        )
