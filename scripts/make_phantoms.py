"""Write a folder of phantoms: abdomens with a true label map, for training without patients.

    python scripts/make_phantoms.py phantoms --count 60 --seed 1000

gives ``phantoms/images/phantom_1000.nii.gz`` and ``phantoms/labels/phantom_1000.nii.gz`` and so
on; the number is the seed. Cases that are there already are kept, so a stopped run goes on.
"""

from __future__ import annotations

import argparse
import sys
from pathlib import Path

import numpy as np
import torch
from monai.data import MetaTensor
from rich.progress import track

from volseg.errors import VolsegError
from volseg.io import write_image, write_segmentation
from volseg.phantom import make_phantom


def write_phantom(seed: int, folder: Path) -> None:
    """Write image (int16) and labels of one seed, unless both are there."""
    image_path, label_path = (
        folder / kind / f"phantom_{seed:04d}.nii.gz" for kind in ("images", "labels")
    )
    if image_path.is_file() and label_path.is_file():
        return
    phantom = make_phantom(seed)
    # Whole numbers are a small part of the noise and a third of the file.
    stored = np.rint(phantom.image).astype(np.int16)[np.newaxis]
    image = MetaTensor(torch.from_numpy(stored), affine=torch.from_numpy(phantom.affine))
    write_image(image, image_path)
    write_segmentation(phantom.labels, label_path, like=image)


def main() -> None:
    """Read the arguments and write the phantoms."""
    parser = argparse.ArgumentParser(description="Write abdomen phantoms with their label maps.")
    parser.add_argument("out", type=Path, help="folder for images/ and labels/")
    parser.add_argument("--count", type=int, default=60, help="number of phantoms")
    parser.add_argument("--seed", type=int, default=1000, help="seed of the first phantom")
    arguments = parser.parse_args()
    seeds = range(arguments.seed, arguments.seed + arguments.count)
    try:
        for seed in track(seeds, description="phantoms"):
            write_phantom(seed, arguments.out)
    except VolsegError as error:
        sys.exit(str(error))


if __name__ == "__main__":
    main()
