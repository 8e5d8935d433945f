"""DICOM series made by arithmetic, whose voxels and geometry are known exactly."""

from __future__ import annotations

import itertools
from collections.abc import Callable, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from pydicom import dcmread
from pydicom.dataset import Dataset, FileDataset, FileMetaDataset
from pydicom.encaps import encapsulate, generate_frames
from pydicom.uid import (
    CTImageStorage,
    DeflatedExplicitVRLittleEndian,
    EnhancedMRImageStorage,
    ExplicitVRBigEndian,
    ExplicitVRLittleEndian,
    ImplicitVRLittleEndian,
    JPEG2000Lossless,
    JPEGLosslessSV1,
    JPEGLSLossless,
    RLELossless,
)

from volseg.geometry import Affine

_UNCOMPRESSED = {
    "explicit": ExplicitVRLittleEndian,
    "implicit": ImplicitVRLittleEndian,
    "big endian": ExplicitVRBigEndian,
    "deflated": DeflatedExplicitVRLittleEndian,
}


@dataclass
class Synthetic:
    """How a series is made; `write` returns its truth.

    Attributes:
        shape: columns, rows and slices.
        turn: rotation of the stack in LPS+ space, (3, 3).
        spacing: mm between columns, rows and slices.
        shear: how far each slice lies from the one below in its own plane, mm along its rows and
            columns.
        places: places of the slices in steps of the spacing; 0, 1, 2, ... without.
        times: number of volumes.
        tags: tags of every file.
        vary: tags of each file, from the number of the volume and of the slice.
        syntax: transfer syntax.
        is_multi_frame: whether all slices lie in one enhanced file.
        kind: type of stored values.
        bits: bits stored; those of the type without.
        scale: slope and intercept of a slice.
        seed: of the values, of the names of files and of the order in which they are written.
    """

    shape: tuple[int, int, int] = (5, 4, 6)
    turn: Any = field(default_factory=lambda: np.eye(3))
    spacing: tuple[float, float, float] = (0.7, 0.9, 2.5)
    shear: tuple[float, float] = (0.0, 0.0)
    places: Sequence[float] | None = None
    times: int = 1
    tags: dict[str, Any] = field(default_factory=dict)
    vary: Callable[[int, int], dict[str, Any]] = lambda time, number: {}
    syntax: str = "explicit"
    is_multi_frame: bool = False
    kind: str = "uint16"
    bits: int | None = None
    scale: Callable[[int], tuple[float, float]] = lambda number: (1.0, 0.0)
    seed: int = 0

    def write(self, folder: Path) -> Truth:
        """Write the files and return what a reader has to find in them."""
        folder.mkdir(parents=True, exist_ok=True)
        columns, rows, slices = self.shape
        random = np.random.default_rng(self.seed)
        kind = np.dtype(self.kind)
        bits = self.bits or 8 * kind.itemsize
        low = -(1 << (bits - 1)) if kind.kind == "i" else 0
        stored = random.integers(low, low + (1 << bits), (self.times, slices, rows, columns))
        stored = stored.astype(kind)
        if self.is_multi_frame:
            self._write_multi_frame(folder, stored, bits, random)
        else:
            order = random.permutation(self.times * slices)
            cells = list(itertools.product(range(self.times), range(slices)))
            for name, (time, number) in zip(order, cells, strict=True):
                dataset = self._single(time, number, stored[time, number], bits)
                _save(dataset, folder / f"{name:04d}", self.syntax)
        values = np.stack(
            [
                volume[number] * slope + intercept
                for volume in stored.astype(np.float64)
                for number in range(slices)
                for slope, intercept in [self.scale(number)]
            ]
        )
        values = values.reshape(stored.shape).transpose(0, 3, 2, 1)
        return Truth(values, Affine.from_lps(self._matrix()))

    def position(self, number: int) -> list[float]:
        """Return the centre of the first pixel of a slice, LPS+ mm."""
        place = number if self.places is None else self.places[number]
        within = np.array([*self.shear, self.spacing[2]]) * place
        return (np.array([-31.5, 12.25, 70.0]) + self.turn @ within).round(6).tolist()

    def orientation(self) -> list[float]:
        return np.r_[self.turn[:, 0], self.turn[:, 1]].round(9).tolist()

    def _matrix(self) -> Any:
        matrix = np.eye(4)
        matrix[:3, 0] = self.turn[:, 0] * self.spacing[0]
        matrix[:3, 1] = self.turn[:, 1] * self.spacing[1]
        matrix[:3, 2] = self.turn @ [*self.shear, self.spacing[2]]
        matrix[:3, 3] = self.position(0)
        return matrix

    def _single(self, time: int, number: int, plane: Any, bits: int) -> FileDataset:
        instance = time * self.shape[2] + number + 1
        dataset = _image(plane[np.newaxis], bits, f"{self.seed}.{instance}")
        dataset.SOPClassUID = CTImageStorage
        dataset.InstanceNumber = instance
        dataset.ImagePositionPatient = self.position(number)
        dataset.ImageOrientationPatient = self.orientation()
        dataset.PixelSpacing = [self.spacing[1], self.spacing[0]]
        dataset.SliceThickness = 99.0  # must not matter
        slope, intercept = self.scale(number)
        if (slope, intercept) != (1.0, 0.0):
            dataset.RescaleSlope, dataset.RescaleIntercept = slope, intercept
        for name, value in {**self.tags, **self.vary(time, number)}.items():
            setattr(dataset, name, value)
        return dataset

    def _write_multi_frame(self, folder: Path, stored: Any, bits: int, random: Any) -> None:
        cells = list(itertools.product(range(self.times), range(self.shape[2])))
        order = [cells[index] for index in random.permutation(len(cells))]
        dataset = _image(np.stack([stored[cell] for cell in order]), bits, f"{self.seed}.1")
        dataset.SOPClassUID = EnhancedMRImageStorage
        dataset.NumberOfFrames = len(cells)
        measures = Dataset()
        measures.PixelSpacing = [self.spacing[1], self.spacing[0]]
        shared = Dataset()
        shared.PixelMeasuresSequence = [measures]
        dataset.SharedFunctionalGroupsSequence = [shared]
        dataset.PerFrameFunctionalGroupsSequence = [self._groups(*cell) for cell in order]
        for name, value in self.tags.items():
            setattr(dataset, name, value)
        _save(dataset, folder / "multi", self.syntax)

    def _groups(self, time: int, number: int) -> Dataset:
        position, orientation, values, content = Dataset(), Dataset(), Dataset(), Dataset()
        position.ImagePositionPatient = self.position(number)
        orientation.ImageOrientationPatient = self.orientation()
        values.RescaleSlope, values.RescaleIntercept = self.scale(number)
        content.TemporalPositionIndex = time + 1
        groups = Dataset()
        groups.PlanePositionSequence = [position]
        groups.PlaneOrientationSequence = [orientation]
        groups.PixelValueTransformationSequence = [values]
        groups.FrameContentSequence = [content]
        return groups


@dataclass(frozen=True)
class Truth:
    """Values (time, columns, rows, slices) and the affine of a series."""

    values: Any
    affine: Affine


@pytest.fixture(scope="session")
def synthetic() -> type[Synthetic]:
    """The class that makes series."""
    return Synthetic


def _image(planes: Any, bits: int, name: str) -> FileDataset:
    """Return a data set of (frames, rows, columns) stored values, without geometry."""
    dataset = FileDataset(None, {}, file_meta=FileMetaDataset(), preamble=b"\0" * 128)
    dataset.Modality = "CT"
    dataset.SeriesDescription = "synthetic"
    dataset.StudyInstanceUID, dataset.SeriesInstanceUID = "1.2.3", "1.2.3.4"
    dataset.FrameOfReferenceUID = "1.2.3.5"
    dataset.SOPInstanceUID = f"1.2.3.6.{name}"
    dataset.Rows, dataset.Columns = planes.shape[1:3]
    dataset.SamplesPerPixel = 1
    dataset.PhotometricInterpretation = "MONOCHROME2"
    dataset.BitsAllocated = 8 * planes.itemsize
    dataset.BitsStored, dataset.HighBit = bits, bits - 1
    dataset.PixelRepresentation = int(planes.dtype.kind == "i")
    dataset.PixelData = planes.tobytes()
    dataset["PixelData"].VR = "OB" if planes.itemsize == 1 else "OW"
    return dataset


def _save(dataset: FileDataset, path: Path, syntax: str) -> None:
    dataset.file_meta.MediaStorageSOPClassUID = dataset.SOPClassUID
    dataset.file_meta.MediaStorageSOPInstanceUID = dataset.SOPInstanceUID
    dataset.file_meta.TransferSyntaxUID = _UNCOMPRESSED.get(syntax, ExplicitVRLittleEndian)
    if syntax == "big endian" and dataset.BitsAllocated > 8:
        planes = np.frombuffer(dataset.PixelData, f"<u{dataset.BitsAllocated // 8}")
        dataset.PixelData = planes.byteswap().tobytes()
    if syntax == "RLE":
        dataset.compress(RLELossless, encoding_plugin="pydicom", generate_instance_uid=False)
    elif syntax not in _UNCOMPRESSED:
        _compress_with_gdcm(dataset, path, syntax)
    dataset.set_original_encoding(syntax == "implicit", syntax != "big endian")
    dataset.save_as(path, enforce_file_format=True)


def _compress_with_gdcm(dataset: FileDataset, path: Path, syntax: str) -> None:
    """Compress frame by frame, each in a file of its own: GDCM writes new functional groups."""
    import gdcm

    kind, uid = {
        "JPEG lossless": (gdcm.TransferSyntax.JPEGLosslessProcess14_1, JPEGLosslessSV1),
        "JPEG-LS": (gdcm.TransferSyntax.JPEGLSLossless, JPEGLSLossless),
        "JPEG 2000": (gdcm.TransferSyntax.JPEG2000Lossless, JPEG2000Lossless),
    }[syntax]
    count = int(dataset.get("NumberOfFrames", 1))
    size = dataset.Rows * dataset.Columns * dataset.BitsAllocated // 8
    frames = []
    for number in range(count):
        plane = _image(np.zeros((1, dataset.Rows, dataset.Columns), np.uint8), 8, "0")
        for name in ("BitsAllocated", "BitsStored", "HighBit", "PixelRepresentation"):
            setattr(plane, name, dataset.get(name))
        plane.SOPClassUID = CTImageStorage
        plane.PixelData = dataset.PixelData[number * size : (number + 1) * size]
        _save(plane, path, "explicit")
        reader, change = gdcm.ImageReader(), gdcm.ImageChangeTransferSyntax()
        reader.SetFileName(str(path))
        assert reader.Read()
        change.SetTransferSyntax(gdcm.TransferSyntax(kind))
        change.SetInput(reader.GetImage())
        assert change.Change()
        writer = gdcm.ImageWriter()
        writer.SetFileName(str(path))
        writer.SetFile(reader.GetFile())
        writer.SetImage(change.GetOutput())
        assert writer.Write()
        frames.extend(generate_frames(dcmread(path).PixelData, number_of_frames=1))
    dataset.PixelData = encapsulate(frames)
    dataset["PixelData"].VR = "OB"
    dataset.file_meta.TransferSyntaxUID = uid
