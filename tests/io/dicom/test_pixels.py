"""Values: bits, signs, scales, colours and padding of single frames."""

from __future__ import annotations

import io
from pathlib import Path
from typing import Any

import numpy as np
import pydicom
import pytest
import torch
from PIL import Image

from volseg.errors import InputError
from volseg.io import open_volume, read_image


def rewrite(folder: Path, change: Any) -> None:
    for file in folder.iterdir():
        dataset = pydicom.dcmread(file)
        change(dataset)
        dataset.save_as(file)


@pytest.mark.parametrize(
    ("kind", "bits", "intercept", "expected"),
    [
        ("uint8", None, 0.0, torch.uint8),
        ("int8", None, 0.0, torch.int8),
        ("uint8", None, -5.0, torch.int16),
        ("int16", None, 0.0, torch.int16),
        ("uint16", 12, -1024.0, torch.int16),
        ("uint16", 16, 0.0, torch.int32),
        ("uint16", 16, -32768.0, torch.int16),
        ("int16", 16, 1000.0, torch.int32),
        ("uint32", 32, 0.0, torch.int64),
        ("int32", 32, 0.0, torch.int32),
    ],
)
def test_whole_numbers_stay_whole_in_a_type_that_holds_them(
    synthetic: Any, tmp_path: Path, kind: str, bits: int | None, intercept: float, expected: Any
) -> None:
    series = synthetic(shape=(20, 30, 6), kind=kind, bits=bits, scale=lambda n: (1.0, intercept))
    truth = series.write(tmp_path)
    image = read_image(tmp_path)
    assert image.dtype is expected
    np.testing.assert_array_equal(image.numpy(), truth.values)


def test_many_slices_come_in_order(synthetic: Any, tmp_path: Path) -> None:
    series = synthetic(shape=(3, 2, 75), times=2, vary=lambda t, n: {"EchoTime": 1.0 + t})
    truth = series.write(tmp_path)
    np.testing.assert_array_equal(read_image(tmp_path).numpy(), truth.values)


def test_intercepts_may_differ_among_slices(synthetic: Any, tmp_path: Path) -> None:
    truth = synthetic(kind="int16", scale=lambda number: (1.0, 10.0 * number)).write(tmp_path)
    image = read_image(tmp_path)
    assert not image.is_floating_point()
    np.testing.assert_array_equal(image.numpy(), truth.values)


def test_bits_beside_the_value_are_not_part_of_it(synthetic: Any, tmp_path: Path) -> None:
    truth = synthetic(kind="int16", bits=10).write(tmp_path)

    def shift(dataset: Any) -> None:
        # Values in bits 4 to 13, an overlay in bits 0 and 15 (retired, and still around).
        stored = np.frombuffer(dataset.PixelData, np.uint16)
        dataset.PixelData = (((stored & 0x3FF) << 4) | 0x8001).astype(np.uint16).tobytes()
        dataset.HighBit = 13

    rewrite(tmp_path, shift)
    np.testing.assert_array_equal(read_image(tmp_path).numpy(), truth.values)


def test_signs_are_extended_from_the_bits_stored(synthetic: Any, tmp_path: Path) -> None:
    truth = synthetic(kind="int16", bits=12).write(tmp_path)

    def cut(dataset: Any) -> None:
        stored = np.frombuffer(dataset.PixelData, np.uint16)
        dataset.PixelData = (stored & 0xFFF).astype(np.uint16).tobytes()

    rewrite(tmp_path, cut)
    np.testing.assert_array_equal(read_image(tmp_path).numpy(), truth.values)


def test_padding_that_no_pixel_can_have_is_kept(synthetic: Any, tmp_path: Path) -> None:
    truth = synthetic(kind="int16", bits=12, tags={"PixelPaddingValue": -3000}).write(tmp_path)

    def pad(dataset: Any) -> None:
        stored = np.frombuffer(dataset.PixelData, np.int16).copy()
        stored[0] = -3000
        dataset.PixelData = stored.tobytes()

    rewrite(tmp_path, pad)
    expected = truth.values.copy()
    expected[0, 0, 0] = -3000
    np.testing.assert_array_equal(read_image(tmp_path).numpy(), expected)


def test_monochrome1_keeps_its_values(synthetic: Any, tmp_path: Path) -> None:
    truth = synthetic(tags={"PhotometricInterpretation": "MONOCHROME1"}).write(tmp_path)
    np.testing.assert_array_equal(read_image(tmp_path).numpy(), truth.values)


@pytest.mark.parametrize("planar", [0, 1])
def test_colours_are_channels(synthetic: Any, tmp_path: Path, planar: int) -> None:
    synthetic(shape=(6, 4, 3), kind="uint8").write(tmp_path)
    colours = np.random.default_rng(1).integers(0, 256, (3, 4, 6, 3), np.uint8)

    def colour(dataset: Any) -> None:
        plane = colours[round((dataset.ImagePositionPatient[2] - 70) / 2.5)]
        dataset.SamplesPerPixel, dataset.PlanarConfiguration = 3, planar
        dataset.PhotometricInterpretation = "RGB"
        dataset.PixelData = (plane.transpose(2, 0, 1) if planar else plane).tobytes()

    rewrite(tmp_path, colour)
    image = read_image(tmp_path)
    assert image.dtype is torch.uint8
    np.testing.assert_array_equal(image.numpy(), colours.transpose(3, 2, 1, 0))
    with open_volume(tmp_path) as volume:
        assert volume.channels == 3


def test_ybr_becomes_rgb(synthetic: Any, tmp_path: Path) -> None:
    synthetic(shape=(6, 4, 3), kind="uint8").write(tmp_path)

    def colour(dataset: Any) -> None:
        dataset.SamplesPerPixel, dataset.PlanarConfiguration = 3, 0
        dataset.PhotometricInterpretation = "YBR_FULL"
        dataset.PixelData = bytes([76, 85, 255] * 24)  # pure red

    rewrite(tmp_path, colour)
    red, green, blue = read_image(tmp_path).numpy()
    assert red.min() >= 253
    assert max(green.max(), blue.max()) <= 2


def test_jpeg_colours_become_rgb(synthetic: Any, tmp_path: Path) -> None:
    synthetic(shape=(32, 24, 3), kind="uint8").write(tmp_path)
    rows, columns = np.mgrid[:24, :32]
    smooth = np.stack([8 * columns, 10 * rows, 255 - 8 * columns], axis=-1).astype(np.uint8)
    stream = io.BytesIO()
    Image.fromarray(smooth).save(stream, "JPEG", quality=98, subsampling="4:2:2")

    def colour(dataset: Any) -> None:
        dataset.SamplesPerPixel, dataset.PlanarConfiguration = 3, 0
        dataset.PhotometricInterpretation = "YBR_FULL_422"
        dataset.PixelData = pydicom.encaps.encapsulate([stream.getvalue()])
        dataset["PixelData"].VR = "OB"
        dataset.file_meta.TransferSyntaxUID = pydicom.uid.JPEGBaseline8Bit

    rewrite(tmp_path, colour)
    values = read_image(tmp_path).numpy().astype(int)
    assert np.abs(values - smooth.transpose(2, 1, 0)[..., None]).max() <= 8


def test_palettes_become_rgb(synthetic: Any, tmp_path: Path) -> None:
    synthetic(shape=(6, 4, 3), kind="uint8", bits=2).write(tmp_path)
    table = np.array([[0, 10, 20], [90, 5, 7], [1, 2, 3], [250, 251, 252]], np.uint8)
    stored = read_image(tmp_path).numpy()[0]

    def colour(dataset: Any) -> None:
        dataset.PhotometricInterpretation = "PALETTE COLOR"
        dataset.BitsStored, dataset.HighBit = 8, 7
        for name, values in zip(("Red", "Green", "Blue"), table.T, strict=True):
            descriptor = f"{name}PaletteColorLookupTableDescriptor"
            setattr(dataset, descriptor, [4, 0, 8])
            dataset[descriptor].VR = "US"
            setattr(dataset, f"{name}PaletteColorLookupTableData", values.tobytes())

    rewrite(tmp_path, colour)
    np.testing.assert_array_equal(read_image(tmp_path).numpy(), np.moveaxis(table[stored], -1, 0))


def test_colour_with_time_is_refused(synthetic: Any, tmp_path: Path) -> None:
    synthetic(times=2, shape=(6, 4, 3), kind="uint8").write(tmp_path)

    def colour(dataset: Any) -> None:
        dataset.SamplesPerPixel, dataset.PlanarConfiguration = 3, 0
        dataset.PhotometricInterpretation, dataset.PixelData = "RGB", bytes(72)

    rewrite(tmp_path, colour)
    with pytest.raises(InputError, match="2 time points in colour"):
        read_image(tmp_path)


def table(entries: Any, first: int, *, is_signed: bool, bits: int = 16) -> pydicom.Dataset:
    item = pydicom.Dataset()
    words = np.asarray(entries, np.uint8 if bits == 8 else np.uint16)
    item.add_new("LUTDescriptor", "SS" if is_signed else "US", [len(words) % 65536, first, bits])
    item.add_new("LUTData", "OW", words.tobytes())
    item.ModalityLUTType = "US"
    return item


@pytest.mark.parametrize("syntax", ["explicit", "implicit", "JPEG-LS"])
@pytest.mark.parametrize(
    ("kind", "bits", "count", "first", "width"),
    [
        ("uint16", 12, 4096, 0, 16),
        ("uint16", 12, 300, 1000, 16),
        ("int16", 12, 500, -250, 16),
        ("uint8", None, 256, 0, 8),
        ("uint16", 16, 65536, 0, 16),
    ],
)
def test_lookup_tables_give_the_true_values(
    synthetic: Any,
    tmp_path: Path,
    syntax: str,
    kind: str,
    bits: int | None,
    count: int,
    first: int,
    width: int,
) -> None:
    entries = np.random.default_rng(2).integers(0, 1 << width, count)
    item = table(entries, first, is_signed=kind == "int16", bits=width)
    tags = {"ModalityLUTSequence": [item]}
    truth = synthetic(kind=kind, bits=bits, tags=tags, syntax=syntax).write(tmp_path)
    image = read_image(tmp_path)
    stored = truth.values.astype(int)
    expected = entries[np.clip(stored - first, 0, count - 1)]
    np.testing.assert_array_equal(image.numpy(), expected)
    with open_volume(tmp_path) as volume:
        (block,) = volume.blocks(10_000)
    np.testing.assert_array_equal(block.values, expected)
    if width == 8:  # which pydicom takes for half of a table
        return
    files = sorted(
        tmp_path.iterdir(), key=lambda file: pydicom.dcmread(file).ImagePositionPatient[2]
    )
    for number, file in enumerate(files):
        dataset = pydicom.dcmread(file)
        theirs = pydicom.pixels.apply_modality_lut(dataset.pixel_array, dataset)
        np.testing.assert_array_equal(expected[0, :, :, number], theirs.T)


def test_a_lookup_table_without_entries_is_damage(synthetic: Any, tmp_path: Path) -> None:
    item = table([1, 2, 3], 0, is_signed=False)
    item.LUTData = b"\0\0"
    synthetic(tags={"ModalityLUTSequence": [item]}).write(tmp_path)
    with pytest.raises(InputError, match="lookup table of 1 entries, 3 expected"):
        read_image(tmp_path)


@pytest.mark.parametrize("syntax", ["RLE", "JPEG-LS", "JPEG lossless"])
def test_damaged_compressed_pixels_are_named(synthetic: Any, tmp_path: Path, syntax: str) -> None:
    synthetic(syntax=syntax).write(tmp_path)
    file = sorted(tmp_path.iterdir())[2]
    dataset = pydicom.dcmread(file)
    dataset.PixelData = pydicom.encaps.encapsulate([bytes(40)])
    dataset["PixelData"].VR = "OB"
    dataset.save_as(file)
    with pytest.raises(InputError, match=f"{file.name}.*damaged") as caught:
        read_image(tmp_path)
    assert "\n" not in str(caught.value)


@pytest.mark.parametrize("syntax", ["RLE", "JPEG lossless", "deflated"])
def test_pictures_larger_than_their_bytes_can_be_are_damage(
    synthetic: Any, tmp_path: Path, syntax: str
) -> None:
    synthetic(syntax=syntax).write(tmp_path)
    rewrite(tmp_path, lambda dataset: dataset.update({"Rows": 65535, "Columns": 65535}))
    with pytest.raises(InputError, match="1 frames of 65535 x 65535 pixels, .* holds 0 at most"):
        read_image(tmp_path)


@pytest.mark.parametrize("syntax", ["explicit", "RLE"])
def test_what_does_not_fit_into_memory_gets_a_sentence(
    synthetic: Any, tmp_path: Path, syntax: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    synthetic(syntax=syntax).write(tmp_path)

    def no_room(*_: object, **__: object) -> None:
        raise MemoryError

    monkeypatch.setattr("volseg.io.dicom.pixels.read_plain", no_room)
    monkeypatch.setattr("pydicom.pixels.pixel_array", no_room)
    with pytest.raises(InputError, match="do not fit into the memory"):
        read_image(tmp_path)


def test_parametric_maps_stay_floating_point(synthetic: Any, tmp_path: Path) -> None:
    truth = synthetic(kind="int32", bits=8).write(tmp_path)

    def real(dataset: Any) -> None:
        values = np.frombuffer(dataset.PixelData, np.int32).astype(np.float32) / 3
        del dataset.PixelData
        dataset.FloatPixelData = values.tobytes()

    rewrite(tmp_path, real)
    image = read_image(tmp_path)
    assert image.dtype is torch.float32
    np.testing.assert_array_equal(image.numpy(), (truth.values / 3).astype(np.float32))


@pytest.mark.parametrize("voxels", [1, 45, 200, 10_000])
@pytest.mark.parametrize("syntax", ["explicit", "JPEG-LS"])
def test_volumes_in_parts_are_those_in_memory(
    synthetic: Any, tmp_path: Path, voxels: int, syntax: str
) -> None:
    series = synthetic(
        times=2, syntax=syntax, vary=lambda t, n: {"EchoTime": 1.0 + t}, scale=lambda n: (0.1, n)
    )
    series.write(tmp_path)
    image = read_image(tmp_path)
    with open_volume(tmp_path) as volume:
        assert not volume.in_memory
        assert volume.meta["series_instance_uid"] == "1.2.3.4"
        whole = np.full(image.shape, np.nan, np.float32)
        for block in volume.blocks(voxels):
            assert block.values.size <= max(voxels, 20)
            whole[block.place] = block.values
    np.testing.assert_array_equal(whole, image.numpy())


@pytest.mark.parametrize("syntax", ["RLE", "JPEG-LS"])
def test_a_block_of_a_compressed_file_takes_its_own_frames_only(
    synthetic: Any, tmp_path: Path, syntax: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    truth = synthetic(is_multi_frame=True, times=2, syntax=syntax).write(tmp_path)

    def no_pixels(*_: object, **__: object) -> None:
        pytest.fail("a data set was made of the pixels of all frames")

    with open_volume(tmp_path) as volume:
        monkeypatch.setattr(pydicom, "dcmread", no_pixels)
        whole = np.full(truth.values.shape, -1.0)
        for block in volume.blocks(20):
            whole[block.place] = block.values
    np.testing.assert_array_equal(whole, truth.values)
