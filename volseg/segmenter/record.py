"""What is kept of a segmented case beside its results: statistics, quality, how it was made."""

from __future__ import annotations

import dataclasses
import functools
import json
import re
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import jsonschema

from volseg.atomic import write_text
from volseg.bundle import Bundle
from volseg.errors import InputError
from volseg.geometry import Affine, Grid
from volseg.metrics import IntensityStatistics, LabelStatistics, VolumeStatistics
from volseg.quality import QualityReport

RECORD_SUFFIX = "_record.json"
"""What a record adds to the name of its case."""
# What is written of a case, beside its record.
_RESULT = re.compile(r"(.+)_(seg|probabilities|entropy|disagreement|preview)")
_FORMAT = 1
_SCHEMA = Path(__file__).with_name("record_schema.json")


@dataclass(frozen=True)
class UsedBundle:
    """What segmented a case.

    Attributes:
        name: Of its folder.
        title: As its metadata say.
        version: Likewise.
        sha256: Of its weights and configurations.
    """

    name: str
    title: str
    version: str
    sha256: str

    @classmethod
    def of(cls, bundle: Bundle) -> UsedBundle:
        """Return what is kept of a bundle."""
        algorithm = bundle.algorithm
        return cls(bundle.name, algorithm.name, algorithm.version, bundle.sha256)


@dataclass(frozen=True)
class CaseRecord:
    """A segmented case.

    Attributes:
        case: Its name.
        image: Path of the image, or of its first channel.
        channels: Paths by name, where each channel is a file or series of its own; else empty.
        grid: Of the image.
        modality: Of a DICOM image, as it says; None for others.
        files: Of the results, by format; in the file of a record by name, for they lie beside it.
        statistics: Of the image and of each label.
        quality: What stands out.
        bundles: What segmented it, several of an ensemble.
        settings: What was chosen beside the bundles, such as ``overlap``, and how the image was
            read, such as ``series``.
        labels: Values of the classes by name.
        seconds: From opening the image to the last result.
        peak_memory_bytes: The most memory that the process held meanwhile.
        volseg: The version.
    """

    case: str
    image: str
    channels: Mapping[str, str]
    grid: Grid
    modality: str | None
    files: Mapping[str, Path]
    statistics: VolumeStatistics
    quality: QualityReport
    bundles: tuple[UsedBundle, ...]
    settings: Mapping[str, Any]
    labels: Mapping[str, int]
    seconds: float
    peak_memory_bytes: int
    volseg: str

    def as_json(self) -> dict[str, Any]:
        """Return the record as JSON holds it."""
        grid = self.grid
        return {
            "volseg_record": _FORMAT,
            "case": self.case,
            "image": {
                "path": self.image,
                "channels": dict(self.channels),
                "modality": self.modality,
                "shape": [*grid.shape],
                "spacing_mm": [*grid.spacing],
                "orientation": "".join(grid.affine.orientation),
                "affine": grid.affine.matrix.tolist(),
                "intensities": _plain(self.statistics.image),
            },
            "files": {name: path.name for name, path in self.files.items()},
            "labels": dict(self.labels),
            "statistics": _plain(self.statistics.labels),
            "quality": self.quality.as_json(),
            "bundles": _plain(self.bundles),
            "settings": dict(self.settings),
            "seconds": round(self.seconds, 3),
            "peak_memory_bytes": self.peak_memory_bytes,
            "volseg": self.volseg,
        }

    def write(self, path: str | Path) -> None:
        """Write the record as JSON; the file appears whole or not at all.

        Raises:
            OutputError: It cannot be written.
        """
        text = json.dumps(self.as_json(), indent=2, allow_nan=False) + "\n"
        write_text(path, text)


def read_record(path: str | Path) -> CaseRecord:
    """Return a record that was written; its files lie beside it.

    Raises:
        InputError: The file cannot be read, or is no record.
    """
    path = Path(path)
    try:
        entry = json.loads(path.read_text(encoding="utf-8"))
        jsonschema.validate(entry, _schema(), cls=jsonschema.Draft202012Validator)
    except (OSError, ValueError) as error:
        raise InputError(f"{path} cannot be read as the record of a case ({error}).") from error
    except jsonschema.ValidationError as error:
        where = " / ".join(map(str, error.absolute_path)) or "top level"
        raise InputError(
            f"{path} is no record of a case: at {where}, {error.message[:200]}; expected what "
            "`volseg segment` writes."
        ) from error
    image = entry["image"]
    return CaseRecord(
        case=entry["case"],
        image=image["path"],
        channels=image["channels"],
        grid=Grid(tuple(image["shape"]), Affine(image["affine"])),
        modality=image["modality"],
        files={name: path.parent / Path(file).name for name, file in entry["files"].items()},
        statistics=VolumeStatistics(
            tuple(_label(row) for row in entry["statistics"]), _intensities(image["intensities"])
        ),
        quality=QualityReport.from_json(entry["quality"]),
        bundles=tuple(UsedBundle(**bundle) for bundle in entry["bundles"]),
        settings=entry["settings"],
        labels=entry["labels"],
        seconds=entry["seconds"],
        peak_memory_bytes=entry["peak_memory_bytes"],
        volseg=entry["volseg"],
    )


def is_result(folder: Path, name: str) -> bool:
    """Return whether an image was written of a case, as a record beside it tells.

    Args:
        folder: That it lies in.
        name: Of the image, without its suffix.
    """
    found = _RESULT.fullmatch(name)
    return found is not None and (folder / f"{found[1]}{RECORD_SUFFIX}").is_file()


def are_results_of(
    path: Path,
    files: Mapping[str, Path],
    *,
    image: str,
    channels: Mapping[str, str],
    bundles: Sequence[Bundle],
    settings: Mapping[str, Any],
) -> bool:
    """Return whether files are there and, as a record says, of this image, bundles and settings.

    A record is written last: files without one are of a run that was stopped.

    Args:
        path: Of the record.
        files: By format, beside it.
        image: As the record is to name it.
        channels: Likewise.
        bundles: What would segment it.
        settings: As the record is to state them.

    Raises:
        BundleError: The bundles cannot be read.
    """
    try:
        record = read_record(path)
    except InputError:
        return False
    digests = [bundle.sha256 for bundle in bundles]
    stated = json.loads(json.dumps([image, dict(channels), digests, dict(settings)]))
    used = [bundle.sha256 for bundle in record.bundles]
    return (
        stated == [record.image, record.channels, used, record.settings]
        and files.items() <= record.files.items()
        and all(file.exists() for file in files.values())
    )


@functools.cache
def _schema() -> Any:
    return json.loads(_SCHEMA.read_text(encoding="utf-8"))


def _label(row: Mapping[str, Any]) -> LabelStatistics:
    values: dict[str, Any] = {
        key: tuple(value) if isinstance(value, list) else value for key, value in row.items()
    }
    values["intensities"] = _intensities(row["intensities"])
    return LabelStatistics(**values)


def _intensities(
    channels: Iterable[Mapping[str, Any] | None],
) -> tuple[IntensityStatistics | None, ...]:
    return tuple(
        one
        if one is None
        else IntensityStatistics(
            **{**one, "percentiles": {int(p): value for p, value in one["percentiles"].items()}}
        )
        for one in channels
    )


def _plain(items: Iterable[Any]) -> list[Any]:
    """Return dataclasses as JSON holds them: the keys of objects are texts."""
    return [None if item is None else _texts_as_keys(dataclasses.asdict(item)) for item in items]


def _texts_as_keys(value: Any) -> Any:
    if isinstance(value, dict):
        return {str(key): _texts_as_keys(entry) for key, entry in value.items()}
    return [_texts_as_keys(entry) for entry in value] if isinstance(value, list | tuple) else value
