"""Reading and writing of images: the only room that touches image files or DICOM.

The names below are loaded on first use: names of files and codes of DICOM need neither torch nor
MONAI.
"""

from __future__ import annotations

from typing import TYPE_CHECKING

from volseg.on_use import loaded_on_use

if TYPE_CHECKING:
    from volseg.io.blocks_with_labels import label_blocks, labelled_blocks
    from volseg.io.channels import in_channel_order
    from volseg.io.conversion import Conversion, convert_file
    from volseg.io.convert import as_image
    from volseg.io.describe import ImageDescription, describe_image
    from volseg.io.detached import files_of_image
    from volseg.io.dictionary import ReadImaged, WriteSegmentationd
    from volseg.io.float_target import map_target, probabilities_target
    from volseg.io.folders import IMAGE_SUFFIXES, dicom_folders, image_files
    from volseg.io.formats import SUFFIXES, image_name, segmentation_suffix
    from volseg.io.label_check import CheckLabelsd
    from volseg.io.label_map import on_source_grid, original_grid_of
    from volseg.io.meta_tensors import affine_of, grid_of, meta_tensor
    from volseg.io.monai_reader import VolsegReader
    from volseg.io.read import read_image
    from volseg.io.reading_options import (
        FileReading,
        ImagePath,
        ImageSource,
        ReadingOptions,
        describe_source,
        first_file,
        reading_of_file,
    )
    from volseg.io.stored_volume import StoredVolume
    from volseg.io.volume import open_volume
    from volseg.io.volume_block import VolumeBlock
    from volseg.io.write import require_segmentation_target, write_image, write_segmentation
    from volseg.io.zarr_opening import open_zarr

__all__ = [
    "IMAGE_SUFFIXES",
    "SUFFIXES",
    "CheckLabelsd",
    "Conversion",
    "FileReading",
    "ImageDescription",
    "ImagePath",
    "ImageSource",
    "ReadImaged",
    "ReadingOptions",
    "StoredVolume",
    "VolsegReader",
    "VolumeBlock",
    "WriteSegmentationd",
    "affine_of",
    "as_image",
    "convert_file",
    "describe_image",
    "describe_source",
    "dicom_folders",
    "files_of_image",
    "first_file",
    "grid_of",
    "image_files",
    "image_name",
    "in_channel_order",
    "label_blocks",
    "labelled_blocks",
    "map_target",
    "meta_tensor",
    "on_source_grid",
    "open_volume",
    "open_zarr",
    "original_grid_of",
    "probabilities_target",
    "read_image",
    "reading_of_file",
    "require_segmentation_target",
    "segmentation_suffix",
    "write_image",
    "write_segmentation",
]

__getattr__ = loaded_on_use(__name__)
