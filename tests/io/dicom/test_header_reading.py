"""Headers found in the bytes of a file: what pydicom finds there, in every encoding."""

from __future__ import annotations

import logging
import warnings
from pathlib import Path
from typing import Any

import pydicom
import pytest
from pydicom.dataset import Dataset
from pydicom.multival import MultiValue
from pydicom.sequence import Sequence

from volseg.io.dicom import frame_keys, frames, header_reading
from volseg.io.dicom.files import without_pydicom_warnings
from volseg.io.dicom.header import FoundHeader, PydicomHeader
from volseg.io.dicom.header_reading import FileHeader, first_bytes, is_marked, read_header

NAMES = sorted(
    {element for _, element in frame_keys._SINGLE}
    | {name for _, *names in frame_keys._MULTI for name in names}
    | set(frames._GROUPS)
    | set(frames._GROUPS.values())
    | {
        "AcquisitionDate",
        "AcquisitionDateTime",
        "AcquisitionTime",
        "BitsAllocated",
        "BitsStored",
        "Columns",
        "ContentDate",
        "ContentTime",
        "DiffusionGradientDirectionSequence",
        "DimensionIndexPointer",
        "DimensionIndexSequence",
        "DimensionIndexValues",
        "FrameOfReferenceUID",
        "HighBit",
        "Modality",
        "ModalityLUTSequence",
        "NumberOfFrames",
        "PatientName",
        "PerFrameFunctionalGroupsSequence",
        "PhotometricInterpretation",
        "PixelPaddingValue",
        "PixelRepresentation",
        "ReferencedImageSequence",
        "Rows",
        "SOPClassUID",
        "SOPInstanceUID",
        "SamplesPerPixel",
        "SeriesDescription",
        "SeriesInstanceUID",
        "SeriesNumber",
        "SharedFunctionalGroupsSequence",
        "SpecificCharacterSet",
        "StudyInstanceUID",
    }
)


def both(path: Path) -> tuple[FileHeader, FileHeader]:
    """Return the header of a file as it is read, and as pydicom alone reads it."""
    with path.open("rb") as stream, without_pydicom_warnings():
        start = first_bytes(stream)
        found = read_header(stream, start, {})
        stream.seek(0)
        theirs = header_reading._by_pydicom(
            stream, path.stat().st_size, {}, force=not is_marked(start)
        )
        return found, theirs


def plain(value: Any) -> Any:
    if isinstance(value, list | MultiValue | Sequence):
        return [plain(part) for part in value]
    if isinstance(value, Dataset | FoundHeader | PydicomHeader):
        return {name: plain(value.get(name)) for name in NAMES if name in value}
    if isinstance(value, int | float):
        return float(value)
    return None if value in (None, "", b"") else str(value)


def require_the_same(path: Path) -> FileHeader:
    found, theirs = both(path)
    assert found.transfer_syntax == theirs.transfer_syntax
    assert found.media_class == theirs.media_class
    assert found.pixels == theirs.pixels
    with without_pydicom_warnings():
        assert plain(found.header) == plain(theirs.header)
    return found


@pytest.mark.parametrize("layout", ["single", "multi-frame"])
@pytest.mark.parametrize("syntax", ["explicit", "implicit", "big endian", "deflated", "JPEG-LS"])
def test_synthetic_headers(synthetic: Any, tmp_path: Path, syntax: str, layout: str) -> None:
    tags = {"SeriesDescription": "Schädel", "SpecificCharacterSet": "ISO_IR 100", "EchoTime": 4.5}
    synthetic(syntax=syntax, is_multi_frame=layout != "single", tags=tags).write(tmp_path)
    for path in tmp_path.iterdir():
        found = require_the_same(path)
        assert found.header.get("SeriesDescription") == "Schädel"
        is_found = syntax not in ("big endian", "deflated")
        assert isinstance(found.header, FoundHeader if is_found else PydicomHeader)


def test_files_that_pydicom_tests_itself_with() -> None:
    folder = Path(pydicom.__file__).parent / "data" / "test_files"
    compared = found_here = 0
    for path in sorted(folder.rglob("*")):
        if not path.is_file() or path.suffix in (".py", ".json", ".txt", ".md", ".zip"):
            continue
        found = require_the_same(path)
        compared += 1
        found_here += isinstance(found.header, FoundHeader)
    assert compared > 100
    assert found_here > 100


@pytest.mark.data
@pytest.mark.parametrize("folder", ["dicom_series", "dicom_misc", "dicom_seg"])
def test_real_headers(data_root: Path, folder: str) -> None:
    seen = 0
    for path in sorted((data_root / folder).rglob("*")):
        if not path.is_file() or path.read_bytes()[128:132] != b"DICM":
            continue
        seen += 1
        require_the_same(path)
    assert seen > 1


def outcome(read: Any, *arguments: Any, **keywords: Any) -> Any:
    try:
        with without_pydicom_warnings():
            file = read(*arguments, **keywords)
            return file.pixels, plain(file.header)
    except Exception as error:
        return type(error)


@pytest.mark.parametrize("syntax", ["explicit", "implicit"])
def test_a_file_cut_anywhere_is_as_pydicom_has_it(
    synthetic: Any, tmp_path: Path, syntax: str
) -> None:
    synthetic(shape=(3, 2, 2), is_multi_frame=True, syntax=syntax).write(tmp_path)
    whole = (tmp_path / "multi").read_bytes()
    path = tmp_path / "cut"
    for length in [*range(132, len(whole), 7), len(whole)]:
        path.write_bytes(whole[:length])
        with path.open("rb") as stream:
            start = first_bytes(stream)
            ours = outcome(read_header, stream, start, {})
            theirs = outcome(header_reading._by_pydicom, stream, length, {}, force=False)
        assert ours == theirs, length


def nested(*, is_open: bool) -> Dataset:
    """Return a data set of sequences in sequences, with or without stated lengths."""
    inner, item, top = Dataset(), Dataset(), Dataset()
    inner.PixelSpacing = [0.5, 0.25]
    item.PixelMeasuresSequence = [inner, inner]
    item.EchoTime = 3.0
    top.SharedFunctionalGroupsSequence = [item]
    top.PerFrameFunctionalGroupsSequence = []
    top.add_new(0x00091010, "SQ", [item])
    top.add_new(0x00090010, "LO", "SOMEBODY")
    for dataset, tags in (
        (item, [0x00289110]),
        (top, [0x52009229, 0x52009230, 0x00091010]),
    ):
        for tag in tags:
            dataset[tag].is_undefined_length = is_open
            for part in dataset[tag].value:
                part.is_undefined_length_sequence_item = is_open
    return top


@pytest.mark.parametrize("is_open", [False, True])
@pytest.mark.parametrize("syntax", ["explicit", "implicit"])
def test_sequences_within_sequences(
    synthetic: Any, tmp_path: Path, syntax: str, is_open: bool
) -> None:
    synthetic(shape=(3, 2, 2), syntax=syntax).write(tmp_path)
    path = tmp_path / "0000"
    dataset = pydicom.dcmread(path)
    dataset.update(nested(is_open=is_open))
    dataset.save_as(path)
    found = require_the_same(path)
    assert isinstance(found.header, FoundHeader)
    (group,) = found.header.get("SharedFunctionalGroupsSequence")
    assert [item.get("PixelSpacing") for item in group.get("PixelMeasuresSequence")] == [
        [0.5, 0.25]
    ] * 2
    assert found.header.get("PerFrameFunctionalGroupsSequence") == []


@pytest.mark.parametrize("syntax", ["explicit", "big endian"])
def test_the_same_bytes_in_two_character_sets(synthetic: Any, tmp_path: Path, syntax: str) -> None:
    known: dict[Any, Any] = {}
    for characters in ("ISO_IR 100", "ISO_IR 144"):
        tags = {"SpecificCharacterSet": characters, "SeriesDescription": "XXXX"}
        synthetic(shape=(3, 2, 1), tags=tags, syntax=syntax).write(tmp_path / characters)
        path = tmp_path / characters / "0000"
        path.write_bytes(path.read_bytes().replace(b"XXXX", b"\xd0\xd1\xd2\xd3"))
        with path.open("rb") as stream:
            header = read_header(stream, first_bytes(stream), known).header
        expected = b"\xd0\xd1\xd2\xd3".decode("latin-1" if "100" in characters else "iso8859-5")
        assert header.get("SeriesDescription") == expected


@pytest.mark.parametrize("rest", range(8))
def test_open_sequences_that_go_on_past_what_is_read_first(
    synthetic: Any, tmp_path: Path, rest: int
) -> None:
    synthetic(shape=(3, 2, 2)).write(tmp_path)
    path = tmp_path / "0000"
    dataset = pydicom.dcmread(path)
    dataset.update(nested(is_open=True))
    filled = nested(is_open=True).SharedFunctionalGroupsSequence[0]
    filled.is_undefined_length_sequence_item = True
    dataset.PerFrameFunctionalGroupsSequence = [filled] * 500
    dataset["PerFrameFunctionalGroupsSequence"].is_undefined_length = True
    dataset.add_new(0x00091011, "OB", bytes(2 * rest))
    dataset.save_as(path)
    found = require_the_same(path)
    assert isinstance(found.header, FoundHeader)
    assert len(found.header.get("PerFrameFunctionalGroupsSequence")) == 500


def test_an_unknown_sequence_of_undefined_length_is_implicit_inside(
    synthetic: Any, tmp_path: Path
) -> None:
    synthetic(shape=(3, 2, 2)).write(tmp_path)
    path = tmp_path / "0000"
    echo = bytes.fromhex("18008100") + (4).to_bytes(4, "little") + b"3.5 "
    measures = bytes.fromhex("feff00e0") + len(echo).to_bytes(4, "little") + echo
    inner = echo + bytes.fromhex("28001091") + len(measures).to_bytes(4, "little") + measures
    item = bytes.fromhex("feff00e0ffffffff") + inner + bytes.fromhex("feff0de000000000")
    unknown = bytes.fromhex("08004011") + b"UN\0\0\xff\xff\xff\xff" + item
    unknown += bytes.fromhex("feffdde000000000")  # (0008,1140) ReferencedImageSequence
    whole = path.read_bytes()
    place = whole.index(bytes.fromhex("18005000") + b"DS")  # SliceThickness
    path.write_bytes(whole[:place] + unknown + whole[place:])
    found = require_the_same(path)
    assert isinstance(found.header, FoundHeader)
    (reference,) = found.header.get("ReferencedImageSequence")
    assert reference.get("EchoTime") == 3.5
    assert reference.get("PixelMeasuresSequence")[0].get("EchoTime") == 3.5


@pytest.mark.parametrize("syntax", ["explicit", "implicit", "big endian"])
@pytest.mark.parametrize("block", [0x10, 0x11, 0xE1])
def test_private_elements_are_those_of_their_creator(
    synthetic: Any, tmp_path: Path, syntax: str, block: int
) -> None:
    synthetic(shape=(3, 2, 2), syntax=syntax).write(tmp_path)
    path = tmp_path / "0000"
    dataset = pydicom.dcmread(path)
    dataset.add_new((0x2001, 0x0010), "LO", "Somebody else")
    dataset.add_new((0x2001, 0x1003), "FL", 7.0)
    if block != 0x10:
        dataset.add_new((0x2001, block), "LO", "Philips Imaging DD 001")
        dataset.add_new((0x2001, block << 8 | 3), "FL", 800.0)
    dataset.save_as(path)
    header = both(path)[0].header
    expected = None if block == 0x10 else 800.0
    assert header.private(0x2001, 3, "Philips Imaging DD 001") == expected


def test_a_private_value_of_another_length_cannot_be_read(synthetic: Any, tmp_path: Path) -> None:
    synthetic(shape=(3, 2, 2)).write(tmp_path)
    path = tmp_path / "0000"
    dataset = pydicom.dcmread(path)
    dataset.add_new((0x2001, 0x0010), "LO", "Philips Imaging DD 001")
    dataset.add_new((0x2001, 0x1003), "SH", "1A")
    dataset.save_as(path)
    tag = bytes.fromhex("01200310")
    path.write_bytes(path.read_bytes().replace(tag + b"SH", tag + b"FL"))
    for file in both(path):
        with pytest.raises(ValueError, match=r"\(2001,1003\) cannot be read"):
            file.header.private(0x2001, 3, "Philips Imaging DD 001")


def test_long_headers_are_read_to_their_end(synthetic: Any, tmp_path: Path) -> None:
    synthetic(shape=(3, 2, 2)).write(tmp_path)
    path = tmp_path / "0000"
    dataset = pydicom.dcmread(path)
    dataset.add_new((0x0029, 0x0010), "LO", "SIEMENS CSA HEADER")
    dataset.add_new((0x0029, 0x1010), "OB", bytes(300_000))
    dataset.save_as(path)
    assert isinstance(require_the_same(path).header, FoundHeader)


@pytest.mark.parametrize(
    ("name", "representation", "stored"),
    [
        ("InstanceNumber", "IS", b"1.0 "),
        ("EchoTime", "DS", b"4,5 "),
        ("ImagePositionPatient", "DS", b"1\\\\3 "),
        ("Rows", "US", b"\x02\0\0"),
        ("SeriesDescription", "LO", b"\x1b$B\x3b3"),
        ("InstanceNumber", "IS", b"1A"),
    ],
)
def test_values_against_the_rules_are_what_pydicom_makes_of_them(
    synthetic: Any, tmp_path: Path, name: str, representation: str, stored: bytes
) -> None:
    synthetic(shape=(3, 2, 2), tags={"EchoTime": 1.0}).write(tmp_path)
    path = tmp_path / "0000"
    tag = pydicom.datadict.tag_for_keyword(name)
    head = tag.to_bytes(4, "little")[2:] + tag.to_bytes(4, "little")[:2]
    head += representation.encode()
    whole = path.read_bytes()
    place = whole.index(head)
    length = int.from_bytes(whole[place + 6 : place + 8], "little")
    changed = head + len(stored).to_bytes(2, "little") + stored
    path.write_bytes(whole[:place] + changed + whole[place + 8 + length :])
    found, theirs = both(path)

    def value(header: Any) -> Any:
        try:
            with without_pydicom_warnings():
                return plain(header.get(name))
        except ValueError as error:
            return str(error)

    assert isinstance(found.header, FoundHeader)
    assert value(found.header) == value(theirs.header)


def test_a_file_that_is_explicit_and_says_implicit(synthetic: Any, tmp_path: Path) -> None:
    synthetic(shape=(3, 2, 2)).write(tmp_path)
    path = tmp_path / "0000"
    whole = path.read_bytes()
    explicit, implicit = b"1.2.840.10008.1.2.1\0", b"1.2.840.10008.1.2\0\0\0"
    path.write_bytes(whole.replace(explicit, implicit))
    found = require_the_same(path)
    assert isinstance(found.header, PydicomHeader)
    assert found.header.get("Columns") == 3


def test_silence_of_threads_that_overlap_ends_with_the_last() -> None:
    filters, level = list(warnings.filters), logging.getLogger("pydicom").level
    first, second = without_pydicom_warnings(), without_pydicom_warnings()
    first.__enter__()
    second.__enter__()
    first.__exit__(None, None, None)
    warnings.warn("of a value", stacklevel=1)  # an error in tests, but for the silence
    second.__exit__(None, None, None)
    assert warnings.filters == filters
    assert logging.getLogger("pydicom").level == level
