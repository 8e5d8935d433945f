"""Reading of any supported image as a MetaTensor."""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path

from monai.data import MetaTensor

from volseg.io.channels import joined_images, require_options_of_channels
from volseg.io.dicom import DicomOptions, read_dicom
from volseg.io.dicom.segmentations import kind_of_segmentation, read_segmentation
from volseg.io.formats import ImageFormat, format_of_input
from volseg.io.itk import read_itk
from volseg.io.meta_tensors import meta_tensor
from volseg.io.nifti import read_nifti
from volseg.io.picture import read_picture
from volseg.io.reading_options import (
    ImagePath,
    ImageSource,
    ReadingOptions,
    reading_of_channel,
    reading_of_file,
)
from volseg.io.stored_image import StoredImage


def read_image(
    path: ImageSource,
    *,
    orientation: str | None = None,
    series: str | Mapping[str, str] | None = None,
    orthogonal: bool = False,
    irregular: str | None = None,
    suv: bool | Mapping[str, bool] = False,
    onto_first: bool = False,
) -> MetaTensor:
    """Return an image as stored, with the affine that places it in the world.

    Axes keep the order of the file: nothing is reoriented or resampled, unless a DICOM series is
    no plain grid and the caller asks for it.

    Args:
        path: NIfTI, NRRD or MetaImage file, a picture (PNG, TIFF, JPEG), a folder with DICOM
            files at any depth, a multi-frame DICOM file, a DICOMDIR, or a DICOM SEG, which is a
            label map. Or the path of each channel by name, such as
            ``{"t1": "a.nii.gz", "flair": "flair_dicom/"}``, all on one grid: they come in this
            order, on the axes of the first.
        orientation: axis codes such as "RAS" that the caller vouches for. Used only if the file
            states no orientation itself; voxel (0, 0, 0) then lies at the origin of the world.
        series: Series Instance UID, where a folder holds several DICOM series; of channels, by
            their names.
        orthogonal: whether DICOM slices that are not stacked along their normal (a tilted gantry)
            are resampled at right angles; they keep their sheared affine without it.
        irregular: "resample" to have DICOM slices at unequal distances resampled along the stack,
            in steps of about its finer gaps; they are refused without it.
        suv: whether PET values become standardised uptake values by body weight, g/ml; of channels,
            possibly by their names.
        onto_first: whether channels on other grids than the first one's are resampled onto it, as
            they lie in the world, nothing is registered; they are refused without it.

    Returns:
        MetaTensor (channels, x, y, z) of true values, pictures (channels, x, y); time points and
        colours are channels. `meta` holds `affine` (RAS+ mm), `original_affine`, `spatial_shape`,
        `space` and `filename_or_obj`, for DICOM also `modality` and `series_instance_uid`; of
        channels from several files, those of the first.

    Raises:
        InputError: if the file is missing, damaged or of an unsupported kind, there are several
            DICOM series and none is chosen, or an option for DICOM is given for another format.
        GeometryError: if it does not state where its voxels lie, or contradicts itself, or channels
            lie on different grids.
        MissingPackageError: for DICOM without pydicom.
    """
    reading: ReadingOptions = {
        "orientation": orientation,
        "series": series,
        "orthogonal": orthogonal,
        "irregular": irregular,
        "suv": suv,
        "onto_first": onto_first,
    }
    if isinstance(path, Mapping):
        require_options_of_channels(reading, [*path])
        images = {
            name: read_image(one, **reading_of_channel(reading, name)) for name, one in path.items()
        }
        return joined_images(images, onto_first=onto_first)
    of_file = reading_of_file(reading, path)
    stored = read_stored(path, orientation, DicomOptions.of(of_file))
    return meta_tensor(stored.values, stored.require_affine(), stored.source, stored.meta)


def read_stored(
    path: ImagePath,
    orientation: str | None = None,
    options: DicomOptions | None = None,
) -> StoredImage:
    """Return what a file holds; unlike `read_image` also without a stated orientation."""
    source = Path(path)
    kind = format_of_input(source)
    is_segmentation = source.is_file() and kind_of_segmentation(source) is not None
    if kind is ImageFormat.DICOM and not is_segmentation:
        return read_dicom(source, options)
    if options is not None:
        options.require_none(str(source))
    if is_segmentation:
        return read_segmentation(source).image
    if kind in (ImageFormat.NIFTI, ImageFormat.NIFTI_PAIR):
        return read_nifti(source, orientation)
    if kind in (ImageFormat.NRRD, ImageFormat.METAIMAGE):
        return read_itk(source, kind, orientation)
    return read_picture(source, kind)
