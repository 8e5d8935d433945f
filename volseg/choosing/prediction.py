"""What a bundle says of a case, in files."""

from __future__ import annotations

from pathlib import Path

from monai.data import MetaTensor

from volseg.choosing.held_out import LabelledCase
from volseg.io import meta_tensor, open_volume, read_image, write_segmentation
from volseg.segmenter import Segmenter


def predict_case(
    segmenter: Segmenter, case: LabelledCase, labels: Path, probabilities: Path | None = None
) -> MetaTensor:
    """Write what a bundle says of a case, and return its label map, on the grid of the image.

    Args:
        segmenter: With the bundle.
        case: The case.
        labels: File of the label map.
        probabilities: File of the probabilities, if they are wanted.

    Raises:
        VolsegError: The image cannot be read, or a file cannot be written.
    """
    if probabilities is not None:
        segmenter.segment_file(case.image, labels, probabilities=probabilities)
        written = read_image(labels)
        if written.ndim > 3:
            return written
        with open_volume(case.image) as image:  # a picture does not say where its pixels lie
            return meta_tensor(written.as_tensor(), image.grid.affine)
    prediction = segmenter.segment(case.image)
    write_segmentation(prediction, labels, like=prediction)
    return prediction
