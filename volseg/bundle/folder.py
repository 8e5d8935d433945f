"""Where bundles lie and what their metadata says."""

from __future__ import annotations

import json
from collections.abc import Mapping
from dataclasses import dataclass
from functools import cached_property
from pathlib import Path
from typing import TYPE_CHECKING, Any

from volseg.atomic import write_text
from volseg.errors import BundleError, InputError, UnknownNameError

if TYPE_CHECKING:
    from volseg.io.dicom.segmentations import Algorithm, Segment
    from volseg.quality import QualityLimits

_PACKAGE = Path(__file__).resolve().parent.parent


def _shipped_folder() -> Path:
    """Inside an installed wheel, or beside the package in a checkout."""
    installed = _PACKAGE / "shipped_bundles"
    return installed if installed.is_dir() else _PACKAGE.parent / "bundles"


@dataclass(frozen=True)
class Bundle:
    """A bundle folder with readable metadata."""

    folder: Path
    metadata: dict[str, Any]

    @property
    def name(self) -> str:
        """The name of the folder."""
        return self.folder.name

    @property
    def weights(self) -> Path:
        """Where the weights are, whether or not they are there."""
        return self.folder / "models" / "model.pt"

    def config(self, name: str) -> Path:
        """Return the configuration ``name`` (without suffix): YAML if there, else JSON.

        Raises:
            BundleError: There is no such configuration.
        """
        for suffix in (".yaml", ".yml", ".json"):
            path = self.folder / "configs" / f"{name}{suffix}"
            if path.is_file():
                return path
        raise BundleError(
            f"the bundle {self.folder} has no configs/{name}.yaml: it cannot be used for this."
        )

    def named_files(self, name: str) -> list[Path]:
        """Return the files beside the configuration ``name`` that it names, by rising name.

        Raises:
            BundleError: There is no such configuration.
        """
        config = self.config(name)
        text = config.read_text(encoding="utf-8")
        return [
            path
            for path in sorted(config.parent.iterdir())
            if path.is_file() and path != config and f"configs/{path.name}" in text
        ]

    @cached_property
    def labels(self) -> dict[str, int]:
        """Label values of the classes, background left out, as the metadata declares them."""
        try:
            channels = self.metadata["network_data_format"]["outputs"]["pred"]["channel_def"]
            return {str(name): int(value) for value, name in channels.items() if int(value) > 0}
        except (KeyError, TypeError, ValueError, AttributeError) as error:
            raise BundleError(
                f"the metadata of {self.folder} does not name its classes: expected "
                "network_data_format / outputs / pred / channel_def, such as "
                '{"0": "background", "1": "liver"}.'
            ) from error

    @cached_property
    def regions(self) -> dict[str, tuple[int, ...]]:
        """Label values of structures that contain each other, by name; empty where none do.

        Each is a channel of the network's logits, in this order.

        Raises:
            BundleError: The metadata do not state them as lists of values.
        """
        stated = self._pred.get("regions") or {}
        try:
            return {
                str(name): tuple(int(value) for value in values) for name, values in stated.items()
            }
        except (AttributeError, TypeError, ValueError) as error:
            raise BundleError(
                f"the metadata of {self.folder} state the regions {stated!r}; expected "
                'label values by name, such as {"tumour": [1, 2], "core": [2]}.'
            ) from error

    @property
    def structures(self) -> dict[str, tuple[int, ...]]:
        """What a label map is judged by: the label values of each structure, by name."""
        return self.regions or {name: (value,) for name, value in self.labels.items()}

    @property
    def ignore(self) -> int | None:
        """Value in label files of the voxels that nobody labelled, if there are any."""
        value = self._pred.get("ignore")
        return None if value is None else int(value)

    @property
    def _pred(self) -> dict[str, Any]:
        """What the metadata say of the logits; complains where they do not name the classes."""
        if not self.labels:
            return {}
        found: dict[str, Any] = self.metadata["network_data_format"]["outputs"]["pred"]
        return found

    @property
    def segments(self) -> list[Segment]:
        """What the labels stand for in DICOM, by rising value.

        The metadata may code any of them under ``dicom_segments``, by class name, as dcmqi does
        (`volseg.io.dicom.segmentations.coded_segment`); the others are "Tissue".

        Raises:
            BundleError: A code is damaged, or of a class the bundle does not have.
        """
        # Loads numpy and scipy, for which who only lists bundles need not wait.
        from volseg.io.dicom.segmentations import coded_segment  # noqa: PLC0415

        entries = self.metadata.get("dicom_segments", {})
        where = f"the metadata of {self.folder}"
        if not isinstance(entries, dict) or not all(isinstance(e, dict) for e in entries.values()):
            raise BundleError(f"dicom_segments in {where} must hold an object for each class name.")
        unknown = sorted(set(entries) - set(self.labels))
        if unknown:
            raise BundleError(
                f"dicom_segments in {where} code {', '.join(unknown)}, which are no classes of "
                f"the bundle; expected some of {', '.join(self.labels)}."
            )
        try:
            found = [
                coded_segment(value, name, entries.get(name, {}), f"{name!r} in {where}")
                for name, value in self.labels.items()
            ]
        except InputError as error:
            raise BundleError(str(error)) from error
        return sorted(found, key=lambda segment: segment.number)

    @property
    def algorithm(self) -> Algorithm:
        """The bundle as what made a segmentation: its title and version."""
        from volseg.io.dicom.segmentations import Algorithm  # noqa: PLC0415

        name, version = self.metadata.get("name", self.name), self.metadata.get("version", "0")
        return Algorithm(str(name), str(version))

    @cached_property
    def quality(self) -> QualityLimits | None:
        """What is usual for its cases, of ``configs/quality.json``; None if it was not learned.

        Raises:
            BundleError: The file is damaged.
        """
        from volseg.quality import QUALITY_FILE, QualityLimits  # noqa: PLC0415

        path = self.folder / "configs" / QUALITY_FILE
        if not path.is_file():
            return None
        try:
            return QualityLimits.from_json(json.loads(path.read_text(encoding="utf-8")), str(path))
        except (OSError, ValueError, InputError) as error:
            raise BundleError(str(error)) from error

    @property
    def modality(self) -> str | None:
        """What its images are, as the metadata say: a DICOM modality such as MR, or a word."""
        word = self.metadata.get("network_data_format", {}).get("inputs", {}).get("image", {})
        return None if "modality" not in word else str(word["modality"])

    @cached_property
    def sha256(self) -> str:
        """One digest of the weights and of all configurations, by file name and content.

        Raises:
            BundleError: They cannot be read.
        """
        from volseg.data import hash_files  # noqa: PLC0415

        configs = self.folder / "configs"
        try:
            return hash_files([self.weights, *(f for f in configs.iterdir() if f.is_file())])
        except OSError as error:
            raise BundleError(f"the bundle {self.folder} cannot be read ({error}).") from error

    @property
    def channels(self) -> list[str]:
        """Names of the channels of an image, in order.

        Raises:
            BundleError: The metadata does not name as many as the network takes.
        """
        names = self._image("channel_def")
        order = [str(index) for index in range(self.in_channels)]
        if not isinstance(names, dict) or sorted(names) != sorted(order):
            raise BundleError(
                f"the metadata of {self.folder} does not name its channels: expected "
                "network_data_format / inputs / image / channel_def, with a name for each of "
                f"{', '.join(order)}."
            )
        return [str(names[index]) for index in order]

    @property
    def channel_files(self) -> list[str]:
        """Names of the channels that may be files of their own; none where an image is one file."""
        composition = self.metadata.get("composition")
        named = isinstance(composition, dict) and composition.get("channels")
        return self.channels if named or self.in_channels > 1 else []

    @property
    def in_channels(self) -> int:
        """Number of image channels the network takes."""
        return int(self._image("num_channels"))

    @property
    def out_channels(self) -> int:
        """Number of channels of the network's logits: regions, or classes with the background."""
        outputs = self._pred
        return int(outputs.get("num_channels", len(outputs.get("channel_def", "1"))))

    @property
    def spatial_dims(self) -> int:
        """Spatial axes the network takes, 2 or 3."""
        return len(self._image("spatial_shape"))

    def _image(self, key: str) -> Any:
        try:
            return self.metadata["network_data_format"]["inputs"]["image"][key]
        except (KeyError, TypeError) as error:
            raise BundleError(
                f"the metadata of {self.folder} does not describe its images: expected "
                f"network_data_format / inputs / image / {key}."
            ) from error


def shipped_bundles() -> dict[str, Path]:
    """Return the bundles that come with volseg, by name."""
    folder = _shipped_folder()
    if not folder.is_dir():
        return {}
    return {
        path.name: path
        for path in sorted(folder.iterdir())
        if (path / "configs" / "metadata.json").is_file()
    }


def find_bundle(bundle: str | Path) -> Path:
    """Return the folder of a bundle given by name or by folder.

    A name is one of `shipped_bundles`; anything that is a folder on the disk is taken as it is.

    Raises:
        UnknownNameError: Neither; the message lists the nearest names.
        BundleError: The folder is not a bundle.
    """
    shipped = shipped_bundles()
    if str(bundle) in shipped:
        return shipped[str(bundle)]
    folder = Path(bundle)
    if not folder.is_dir():
        if len(folder.parts) > 1:
            raise BundleError(f"there is no bundle folder {folder}.")
        raise UnknownNameError("bundle", str(bundle), shipped)
    if not (folder / "configs" / "metadata.json").is_file():
        raise BundleError(f"the folder {folder} is not a bundle: it has no configs/metadata.json.")
    return folder.resolve()


def open_bundle(bundle: str | Path) -> Bundle:
    """Return a bundle given by name or folder, its metadata read.

    Raises:
        UnknownNameError: No bundle has this name.
        BundleError: The folder is not a bundle or its metadata is not JSON.
    """
    folder = find_bundle(bundle)
    path = folder / "configs" / "metadata.json"
    try:
        metadata = json.loads(path.read_text(encoding="utf-8"))
    except (json.JSONDecodeError, UnicodeDecodeError) as error:
        raise BundleError(f"{path} is not JSON ({error}).") from error
    if not isinstance(metadata, dict):
        raise BundleError(f"{path} holds a {type(metadata).__name__}, expected an object.")
    return Bundle(folder=folder, metadata=metadata)


def write_metadata(bundle: Bundle, metadata: Mapping[str, Any]) -> Bundle:
    """Replace the metadata of a bundle, whole or not at all, and return it.

    Raises:
        OutputError: The file cannot be written.
    """
    write_text(bundle.folder / "configs" / "metadata.json", json.dumps(metadata, indent=2) + "\n")
    return open_bundle(bundle.folder)
