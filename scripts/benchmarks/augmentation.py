"""The same spatial augmentation in volseg, MONAI, TorchIO and batchgeneratorsv2.

What is drawn is the same as far as each library allows: rotations of up to 0.35 radians about each
axis, one scale of 0.8 to 1.25, displacements of up to about 4 voxels on a grid of 5 points an axis;
the image linear, the label nearest, zeros outside. What differs is said with each peer.
"""

from __future__ import annotations

import math
from collections.abc import Callable
from dataclasses import dataclass
from functools import partial
from importlib import import_module
from typing import Any

import numpy as np
import torch
from monai import transforms as monai_transforms
from monai.data import MetaTensor

from benchmarks.timing import Run
from volseg.transforms import RandElasticd, RandRotated, RandSpatiald

ROTATION = 0.35
SCALE = (0.8, 1.25)
POINTS = 5
LARGEST = 4.0  # voxels; three standard deviations where displacements are normal

KEYS = ("image", "label")
MODES = {"image": "bilinear", "label": "nearest"}
# Displacements of MONAI's 3D transform are uniform noise, smoothed. The standard deviation left by
# a Gaussian of this many voxels is 1 / sqrt(3) * (2 sqrt(pi) sigma)^(-3/2): magnitude undoes that.
_SIGMA = 6.5
_MAGNITUDE = LARGEST / 3 * math.sqrt(3) * (2 * math.sqrt(math.pi) * _SIGMA) ** 1.5


@dataclass(frozen=True)
class Scene:
    """A volume, or a picture, and the patch that is wanted of it."""

    size: tuple[int, ...]
    patch: tuple[int, ...]

    @classmethod
    def parse(cls, text: str) -> Scene:
        """Read "128x128x128", or "256x256x256:64x64x64" for a patch of a volume."""
        size, _, patch = text.partition(":")
        sides = [tuple(int(side) for side in part.split("x")) for part in (size, patch or size)]
        scene = cls(*sides)
        if len(scene.size) not in (2, 3) or len(scene.patch) != len(scene.size):
            raise ValueError(text)
        return scene

    def __str__(self) -> str:
        whole = "x".join(map(str, self.size))
        return whole if self.whole else f"{'x'.join(map(str, self.patch))} of {whole}"

    @property
    def whole(self) -> bool:
        """Whether the patch is all of the volume."""
        return self.patch == self.size

    def case(self) -> dict[str, MetaTensor]:
        """Return an image, float32, and its label, uint8, both (1, *size), voxels of 1 mm."""
        sides = [torch.linspace(-1, 1, side) for side in self.size]
        square = torch.stack(torch.meshgrid(*sides, indexing="ij")).square().sum(0)
        label = (square < 0.7).to(torch.uint8) + (square < 0.3).to(torch.uint8)
        noise = torch.rand(self.size, generator=torch.Generator().manual_seed(0))
        affine = torch.eye(4, dtype=torch.float64)
        return {
            "image": MetaTensor((label + noise)[None], affine=affine),
            "label": MetaTensor(label[None], affine=affine),
        }


@dataclass(frozen=True)
class Task:
    """What is asked of every library."""

    name: str
    affine: bool
    elastic: bool


COMBINED = Task("rotation, scaling, elastic", affine=True, elastic=True)
AFFINE = Task("rotation, scaling", affine=True, elastic=False)
ELASTIC = Task("elastic", affine=False, elastic=True)


@dataclass(frozen=True)
class Candidate:
    """A transform, ready to run on a scene; without a run it is not installed."""

    name: str
    run: Run | None
    differs: tuple[str, ...] = ()


def tasks_of(scene: Scene) -> tuple[Task, ...]:
    """Return what is compared on a scene."""
    return (COMBINED, AFFINE, ELASTIC) if scene.whole else (COMBINED, AFFINE)


def ours(scene: Scene, task: Task) -> Candidate:
    """Return volseg's transform."""
    return Candidate("RandSpatiald", _on_case(_spatial(scene, task), scene))


def ours_alone(scene: Scene) -> dict[str, Candidate]:
    """Return what volseg is measured at without a peer, by what it does."""
    cubic = _spatial(scene, COMBINED, mode=("cubic", "nearest"))
    found = {f"{COMBINED.name}, cubic": Candidate("RandSpatiald", _on_case(cubic, scene))}
    if scene.whole:
        rotation = RandRotated(KEYS, rotation=ROTATION, mode=("linear", "nearest"))
        elastic = RandElasticd(KEYS, mode=("linear", "nearest"))
        found["rotation"] = Candidate("RandRotated", _on_case(rotation, scene))
        found["elastic, as the original U-Net"] = Candidate(
            "RandElasticd", _on_case(elastic, scene)
        )
    return found


def peers(scene: Scene, task: Task) -> list[Candidate]:
    """Return the transforms of the other libraries, and a word for each that is not installed."""
    found = []
    libraries: dict[str, Callable[[Scene, Task], list[Candidate]]] = {
        "MONAI": _monai,
        "TorchIO": _torchio,
        "batchgeneratorsv2": _batchgenerators,
    }
    for library, build in libraries.items():
        try:
            candidates = build(scene, task)
        except ImportError:
            candidates = [Candidate("", None)]
        found += [
            Candidate(f"{library} {one.name}".rstrip(), one.run, one.differs) for one in candidates
        ]
    return found


def copy_of(scene: Scene) -> Run:
    """Return the least that has to be done: each voxel of image and label read and written once.

    torch's copy into memory that is there already, with as many threads as the rest.
    """
    pairs = [
        (torch.zeros(scene.patch, dtype=dtype), torch.zeros(scene.patch, dtype=dtype))
        for dtype in (torch.float32, torch.uint8)
    ]

    def run() -> None:
        for target, source in pairs:
            target.copy_(source)

    return run


def _spatial(
    scene: Scene, task: Task, mode: tuple[str, str] = ("linear", "nearest")
) -> RandSpatiald:
    return RandSpatiald(
        KEYS,
        patch_size=scene.patch,
        rotation=ROTATION if task.affine else 0.0,
        scale=SCALE if task.affine else (1.0, 1.0),
        control_points=POINTS,
        displacement=LARGEST / 3 if task.elastic else 0.0,
        mode=mode,
    )


def _on_case(transform: Any, scene: Scene) -> Run:
    transform.set_random_state(0)
    return partial(transform, scene.case())


def _monai(scene: Scene, task: Task) -> list[Candidate]:
    dims = len(scene.size)
    moved: dict[str, Any] = {"prob": 1.0, "mode": list(MODES.values()), "padding_mode": "zeros"}
    if task.affine:
        scale = [(SCALE[0] - 1, SCALE[1] - 1)] * dims
        moved |= {"rotate_range": [ROTATION] * (3 if dims == 3 else 1), "scale_range": scale}
    each = ("a scale for each axis",) if task.affine else ()
    middle = () if scene.whole else ("of a patch only the middle one",)
    if task.elastic:
        if dims == 2:
            name, smooth = "Rand2DElasticd", "uniform displacements, bicubic between them"
            apart = tuple((side - 1) / (POINTS - 1) for side in scene.patch)
            elastic = monai_transforms.Rand2DElasticd(
                KEYS, apart, (LARGEST, LARGEST), spatial_size=scene.patch, **moved
            )
        else:
            name = "Rand3DElasticd"
            smooth = f"noise at every voxel, smoothed over {_SIGMA} voxels only, which is cheaper"
            elastic = monai_transforms.Rand3DElasticd(
                KEYS,
                (_SIGMA, _SIGMA),
                (_MAGNITUDE, _MAGNITUDE),
                spatial_size=scene.patch,
                **moved,
            )
        return [Candidate(name, _on_case(elastic, scene), (smooth, *each, *middle))]
    if scene.whole:
        affine = monai_transforms.RandAffined(KEYS, **moved)
        return [Candidate("RandAffined", _on_case(affine, scene), each)]

    def cropped(*, lazy: bool) -> monai_transforms.Compose:
        steps = [
            monai_transforms.RandAffined(KEYS, **moved),
            monai_transforms.RandSpatialCropd(KEYS, scene.patch, random_size=False),
        ]
        # Without these, lazy resampling reads labels linearly.
        modes = {key: {"mode": mode, "padding_mode": "zeros"} for key, mode in MODES.items()}
        return monai_transforms.Compose(steps, lazy=lazy, overrides=modes if lazy else None)

    to_patch = monai_transforms.RandAffined(KEYS, spatial_size=scene.patch, **moved)
    name = "RandAffined, then RandSpatialCropd"
    return [
        Candidate(name, _on_case(cropped(lazy=False), scene), (*each, "moves the whole volume")),
        Candidate(f"{name}, lazy", _on_case(cropped(lazy=True), scene), each),
        Candidate("RandAffined", _on_case(to_patch, scene), (*each, *middle)),
    ]


def _torchio(scene: Scene, task: Task) -> list[Candidate]:
    library = import_module("torchio")
    if not scene.whole or len(scene.size) == 2:
        return []  # it takes patches from volumes that are moved as a whole; 2D is a thin volume
    case = scene.case()
    subject = library.Subject(
        image=library.ScalarImage(tensor=case["image"].as_tensor()),
        label=library.LabelMap(tensor=case["label"].as_tensor()),
    )
    affine = {
        "degrees": math.degrees(ROTATION),
        "scales": SCALE,
        "isotropic": True,
        "default_pad_value": 0,
    }
    # Splines reach one point beyond the volume on each side: 5 within it are 7.
    elastic = {"num_control_points": POINTS + 2, "max_displacement": LARGEST, "locked_borders": 0}
    name, smooth = "RandomElasticDeformation", ("uniform spline coefficients",)
    if not task.elastic:
        return [Candidate("RandomAffine", partial(library.RandomAffine(**affine), subject))]
    if not task.affine:
        transform = library.RandomElasticDeformation(**elastic)
        return [Candidate(name, partial(transform, subject), smooth)]
    twice = library.Compose(
        [library.RandomAffine(**affine), library.RandomElasticDeformation(**elastic)]
    )
    once = library.RandomAffineElasticDeformation(affine_kwargs=affine, elastic_kwargs=elastic)
    return [
        Candidate(
            f"RandomAffine, then {name}", partial(twice, subject), (*smooth, "interpolates twice")
        ),
        Candidate("RandomAffineElasticDeformation", partial(once, subject), smooth),
    ]


def _batchgenerators(scene: Scene, task: Task) -> list[Candidate]:
    library = import_module("batchgeneratorsv2.transforms.spatial.spatial")
    case = {key: tensor.as_tensor() for key, tensor in scene.case().items()}
    np.random.seed(0)  # noqa: NPY002 - that is what it draws from
    transform = library.SpatialTransform(
        scene.patch,
        patch_center_dist_from_border=[side / 2 for side in scene.patch],
        random_crop=not scene.whole,
        p_rotation=float(task.affine),
        rotation=(-ROTATION, ROTATION),
        p_scaling=float(task.affine),
        scaling=SCALE,
        p_synchronize_scaling_across_axes=1,
        p_elastic_deform=float(task.elastic),
        # A cubic B-spline is about as wide as a Gaussian of 1 / sqrt(3) of the points' distance.
        elastic_deform_scale=1 / (POINTS - 1) / math.sqrt(3),
        elastic_deform_magnitude=LARGEST,
        mode_seg="nearest",
    )
    smooth = "noise at every voxel, smoothed, its largest displacement fixed"
    run = partial(transform, image=case["image"], segmentation=case["label"])
    return [Candidate("SpatialTransform", run, (smooth,) if task.elastic else ())]
