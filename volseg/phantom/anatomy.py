"""The anatomy of the phantom: which tissue lies where in the abdomen, and in what order.

All sizes are of an adult trunk in a box of `FIELD` millimetres; x is right, y anterior, z superior.
"""

from __future__ import annotations

from collections.abc import Mapping

import numpy as np

from volseg.phantom.canvas import Box, Canvas, part_of
from volseg.phantom.shapes import (
    Points,
    Vector,
    Volume,
    column,
    ellipsoid,
    intersection,
    largest_piece,
    tube,
    union,
)

#: Classes of the label map; everything else is background, 0.
NAMES = {"background": 0, "liver": 1, "spleen": 2, "kidneys": 3, "lesions": 4}


def paint_abdomen(canvas: Canvas, tissue: Mapping[str, float]) -> None:
    """Paint a whole abdomen.

    The order is the priority where organs would overlap: spine and great vessels, kidneys,
    spleen, gallbladder, lesions, liver, then everything that has no class. Organs keep a
    millimetre or two from what came before, the fat between them.

    Args:
        canvas: An empty canvas.
        tissue: Mean intensity of each tissue.
    """
    draw = canvas.generator
    fat, muscle = draw.uniform(9, 22), draw.uniform(9, 13)
    body = column(canvas.points, (0, 0), (161, 110), squareness=0.35)
    wall = column(canvas.points, (0, 2), (161 - fat, 107 - fat), squareness=0.35)
    cavity = column(canvas.points, (0, 9), (161 - fat - muscle, 96 - fat - muscle), squareness=0.35)
    chest, points = canvas.around((0, 0, 90), (200, 160, 100))
    diaphragm = _diaphragm(points, draw.uniform(88, 104))
    belly = cavity.copy()
    belly[chest] = intersection(cavity[chest], diaphragm, 10)

    _paint_spine(canvas, tissue)
    for side in (1, -1):
        _paint_kidney(canvas, tissue, belly, side)
    _paint_spleen(canvas, tissue, belly)
    _paint_liver(canvas, tissue, belly)
    _paint_chest(canvas, tissue, cavity[chest] + 1, diaphragm, chest)
    _paint_gut(canvas, tissue, belly)

    canvas.paint(cavity, canvas.everywhere, tissue["inner fat"])
    box, points = canvas.around((0, 0, 70), (200, 150, 80))
    ribs = np.abs(np.mod(points[2] + 0.45 * points[1], 27) - 13.5) - 5
    ribs = np.maximum(ribs, np.abs(cavity[box] - muscle / 2) - 3.5)
    canvas.paint(ribs, box, tissue["marrow"])
    fibres = tissue["muscle"] * (1 + 0.08 * canvas.noise(9))
    canvas.paint(wall, canvas.everywhere, fibres)
    canvas.paint(body, canvas.everywhere, tissue["fat"])
    canvas.signal *= 1 + canvas.grain


def _diaphragm(points: Points, top: float) -> Volume:
    """Return what lies under the diaphragm, a dome over the liver and one over the stomach."""
    x, y, z = points
    right = z + 55 * (np.square((x - 62) / 95) + np.square((y - 12) / 85)) - top
    left = z + 55 * (np.square((x + 68) / 85) + np.square((y - 8) / 80)) - (top - 10)
    return union(right, left, 25)


def _paint_spine(canvas: Canvas, tissue: Mapping[str, float]) -> None:
    """Paint vertebrae and discs, the canal, the muscles beside them, aorta and vena cava."""
    draw = canvas.generator
    box, points = canvas.around((0, -70, 0), (95, 75, 150))
    x, y, z = points
    vena = column(points, (18 + draw.uniform(-3, 3), -29), (12, draw.uniform(7, 11)))
    aorta = column(points, (-13 + draw.uniform(-3, 3), -31), (9, 9))
    canal = column(points, (0, -84), (9, 7))
    vertebra = column(points, (0, -57), (22, 17))
    period = draw.uniform(32, 37)
    height = np.abs(np.mod(z + draw.uniform(0, 37), period) - period / 2)
    disc = np.maximum(vertebra, height - 4.5)
    rim = np.maximum(vertebra, height - 6.5)
    arch = np.maximum(column(points, (0, -86), (17, 13)), 9 - np.abs(height - 4))
    process = column(points, (0, -98), (3.5, 11)) + 0.35 * np.maximum(0, 10 - height)
    for shape in (vena, aorta):
        canvas.paint(shape, box, tissue["vessel"])
    canvas.paint(column(points, (0, -84), (4, 3.5)), box, tissue["cord"])
    canvas.paint(canal, box, tissue["fluid"])
    canvas.paint(disc, box, tissue["disc"])
    canvas.paint(np.minimum(rim, np.abs(vertebra) - 1), box, tissue["cortical bone"])
    canvas.paint(vertebra, box, tissue["marrow"])
    canvas.paint(np.minimum(arch, process), box, tissue["marrow"] * 0.8)
    for side in (1, -1):
        spread = 0.10 * (40 - z) * side
        psoas = column((x - spread, y, z), (side * 35, -52), (13, 17))
        psoas += np.maximum(z - 20, 0) / 6  # it begins at the last rib and grows downwards
        back = column(points, (side * 30, -88), (25, 15))
        for shape in (psoas, back):
            canvas.paint(canvas.yielding(shape, box, 0.5), box, tissue["muscle"])


def _paint_kidney(canvas: Canvas, tissue: Mapping[str, float], belly: Volume, side: int) -> None:
    """Paint the right (1) or left (-1) kidney: a bean with cortex, medulla and a fatty sinus."""
    draw = canvas.generator
    x, y, z = (draw.uniform(-5, 5) for _ in range(3))
    centre = (side * (68 + x), -34 + y, (-38 if side > 0 else -14) + 2 * z)
    radii = (draw.uniform(25, 30), draw.uniform(22, 27), draw.uniform(47, 60))
    box, points = canvas.around(centre, (55, 55, 85))
    # The upper poles lean towards the spine and the hilum looks inwards and forwards.
    tilt = (draw.uniform(-0.15, 0.15), -side * draw.uniform(0.1, 0.3), side * -0.4)
    bean = ellipsoid(points, centre, radii, tilt) + 1.2 * canvas.noise(24, box)
    hilum = (centre[0] - side * 0.95 * radii[0], centre[1] + 0.45 * radii[1], centre[2])
    sinus = ellipsoid(points, hilum, (21, 13, 24), (0, 0, side * -0.4))
    kidney = intersection(bean, -sinus, 5)
    kidney = canvas.yielding(intersection(kidney, belly[box] + 4, 6), box, 2)
    pyramids = np.maximum(kidney + 7, 5 * canvas.noise(11, box) - 1)
    canvas.paint(pyramids, box, tissue["medulla"], label=NAMES["kidneys"])
    canvas.paint(kidney, box, tissue["kidney"], label=NAMES["kidneys"])
    canvas.paint(np.maximum(sinus + 9, bean), box, tissue["fluid"])


def _paint_spleen(canvas: Canvas, tissue: Mapping[str, float], belly: Volume) -> None:
    """Paint the spleen, a bent slab along the left back wall under the diaphragm."""
    draw = canvas.generator
    x, y, z = (draw.uniform(-6, 6) for _ in range(3))
    centre = (-104 + x, -22 + y, 38 + z)
    radii = (draw.uniform(28, 36), draw.uniform(45, 58), draw.uniform(42, 54))
    tilt = (draw.uniform(0.1, 0.5), draw.uniform(-0.2, 0.1), draw.uniform(-0.45, -0.1))
    box, points = canvas.around(centre, (75, 85, 85))
    spleen = ellipsoid(points, centre, radii, tilt) + 1.8 * canvas.noise(26, box)
    inner = (centre[0] + draw.uniform(38, 46), centre[1] + 18, centre[2] - 6)
    spleen = intersection(spleen, -ellipsoid(points, inner, (34, 48, 62)), 8)
    spleen = canvas.yielding(intersection(spleen, belly[box] + 3, 8), box, 2)
    spleen = largest_piece(spleen)
    canvas.paint(spleen, box, tissue["spleen"], label=NAMES["spleen"])


def _paint_liver(canvas: Canvas, tissue: Mapping[str, float], belly: Volume) -> None:
    """Paint gallbladder, lesions, the vessels of the liver, and the liver around them."""
    draw = canvas.generator
    box, points = canvas.around((35, 2, 22), (125, 108, 95))
    right = (70 + draw.uniform(-6, 6), 2 + draw.uniform(-5, 5), 28 + draw.uniform(-8, 8))
    radii = (draw.uniform(68, 80), draw.uniform(78, 92), draw.uniform(72, 88))
    reach = draw.uniform(60, 85)
    lobe = ellipsoid(points, (2, 40, 58), (reach, 42, 34), (0, draw.uniform(-0.1, 0.25), 0.15))
    liver = union(ellipsoid(points, right, radii, (0, 0.15, 0)), lobe, 25)
    # The visceral surface rises from the right flank to the left and faces the stomach.
    slope, floor = draw.uniform(0.55, 0.85), draw.uniform(-62, -40)
    under = (floor + slope * (125 - points[0]) - 0.2 * points[1] - points[2]) / (1 + slope)
    liver = intersection(liver, under, 22) + 1.8 * canvas.noise(30, box)
    liver = canvas.yielding(intersection(liver, belly[box] + 3, 10), box, 2)

    neck = (38 + draw.uniform(-6, 6), 38 + draw.uniform(-8, 8))
    bottom = floor + slope * (125 - neck[0]) - 0.2 * neck[1] - 3
    end = (neck[0] + 12, neck[1] + 22, bottom - 22)
    bladder = tube(points, (*neck, bottom), end, (5, draw.uniform(9, 14)))
    canvas.paint(bladder, box, tissue["bile"])
    liver = largest_piece(canvas.yielding(liver, box, 1.5))

    _paint_lesions(canvas, tissue, liver, box, points)
    _paint_liver_vessels(canvas, tissue, liver, box)
    canvas.paint(liver, box, tissue["liver"], label=NAMES["liver"])


def _paint_lesions(
    canvas: Canvas, tissue: Mapping[str, float], liver: Volume, box: Box, points: Points
) -> None:
    """Paint up to three lesions wholly or almost wholly within the liver; none in one of six."""
    draw = canvas.generator
    for _ in range(int(draw.choice([0, 1, 1, 2, 2, 3]))):
        size = draw.uniform(9, 21)
        places = draw.uniform((-40, -60, -40), (130, 90, 95), (200, 3))
        for place in places.astype(np.float32):
            index = tuple(
                int(np.clip(np.searchsorted(axis[side], part), 0, side.stop - side.start - 1))
                for axis, side, part in zip(canvas.axes, box, place, strict=True)
            )
            deep = liver[index] < -0.85 * size
            if deep and canvas.nearest[box][index] > size + 4:
                break
        else:
            continue
        centre = (points[0][index].item(), points[1][index].item(), points[2][index].item())
        radii = (size, size * draw.uniform(0.75, 1.1), size * draw.uniform(0.75, 1.1))
        near, positions = canvas.around(place.tolist(), (size + 20,) * 3, box)
        lesion = ellipsoid(positions, centre, radii) + 0.09 * size * canvas.noise(14, near)
        lesion = np.maximum(lesion, liver[part_of(near, box)])
        contrast = tissue["lesion"] * draw.uniform(0.95, 1.05)
        canvas.paint(lesion, near, contrast, label=NAMES["lesions"])


def _paint_liver_vessels(
    canvas: Canvas, tissue: Mapping[str, float], liver: Volume, box: Box
) -> None:
    """Paint three hepatic veins and the branching portal vein, which count as liver."""
    draw = canvas.generator
    drain, gate = (20.0, -18.0, 75.0), (28.0, 8.0, 18.0)
    stems: list[tuple[Vector, Vector, float]] = [
        (drain, (110, 0, 30), 6.5),
        (drain, (65, 60, 40), 6.0),
        (drain, (-25, 45, 55), 5.5),
        (gate, (105, -20, 5), 8.0),
        (gate, (85, 45, 15), 6.5),
        (gate, (-15, 50, 50), 6.0),
    ]
    vessels = np.full(liver.shape, 99, dtype=np.float32)
    for start, goal, width in stems:
        fork = _strayed(_middle(start, goal), 8, draw)
        branches = [(start, fork, width, 0.75 * width), (fork, goal, 0.7 * width, 0.35 * width)]
        for _ in range(2):
            branches.append((fork, _strayed(goal, 30, draw), 0.7 * width, 0.35 * width))
        for begin, end, thick, thin in branches:
            x, y, z = (abs(a - b) / 2 + 25 for a, b in zip(begin, end, strict=True))
            near, positions = canvas.around(_middle(begin, end), (x, y, z), box)
            part = vessels[part_of(near, box)]
            np.minimum(part, tube(positions, begin, end, (thick, thin)), out=part)
    vessels = np.maximum(vessels, liver + 2)
    canvas.paint(vessels, box, tissue["liver vessel"], label=NAMES["liver"])


def _middle(first: Vector, second: Vector) -> Vector:
    """Return the point halfway between two."""
    x, y, z = ((a + b) / 2 for a, b in zip(first, second, strict=True))
    return x, y, z


def _strayed(point: Vector, distance: float, draw: np.random.Generator) -> Vector:
    """Return a point moved by at most ``distance`` mm along each axis."""
    x, y, z = (part + draw.uniform(-distance, distance) for part in point)
    return x, y, z


def _paint_chest(
    canvas: Canvas, tissue: Mapping[str, float], ribcage: Volume, diaphragm: Volume, box: Box
) -> None:
    """Paint the heart and the lungs above the diaphragm, and the diaphragm."""
    draw = canvas.generator
    points = (canvas.points[0][box], canvas.points[1][box], canvas.points[2][box])
    chest = np.maximum(ribcage, 3 - diaphragm)
    heart = ellipsoid(points, (-22 + draw.uniform(-8, 8), 30, 122), (58, 45, 48), (0.2, 0.3, -0.5))
    canvas.paint(np.maximum(heart + 9, chest + 6), box, tissue["vessel"])
    canvas.paint(np.maximum(heart, chest), box, tissue["heart"])
    lungs = canvas.yielding(chest, box, 1)
    canvas.paint(lungs, box, tissue["lung"] * (1 + 5 * canvas.grain[box]))
    canvas.paint(np.maximum(np.abs(diaphragm) - 2, ribcage), box, tissue["muscle"])


def _paint_gut(canvas: Canvas, tissue: Mapping[str, float], belly: Volume) -> None:
    """Paint the stomach, and loops of bowel as the crests of a random field."""
    draw = canvas.generator
    box, points = canvas.around((-50, 20, 40), (110, 95, 95))
    centre = (-62 + draw.uniform(-8, 8), 28 + draw.uniform(-8, 8), 42 + draw.uniform(-10, 10))
    stomach = ellipsoid(points, centre, (draw.uniform(32, 46), 38, 48), (0.3, 0.4, 0.2))
    exit_tube = tube(points, (centre[0], centre[1] + 10, centre[2] - 25), (5, 35, 0), (24, 11))
    stomach = union(stomach, exit_tube, 15) + 2 * canvas.noise(22, box)
    stomach = canvas.yielding(intersection(stomach, belly[box] + 4, 6), box, 2)
    canvas.paint(stomach + 4, box, tissue["stomach"] * (1 + 0.2 * canvas.noise(13, box)))
    canvas.paint(stomach, box, tissue["muscle"])

    box, points = canvas.around((0, 20, -55), (150, 110, 120))
    loops = 8 * (-0.05 - canvas.noise(17, box))
    region = ellipsoid(points, (0, 22, -75), (128, 70, 100))
    loops = np.maximum(loops, intersection(region, belly[box] + 4, 10))
    loops = canvas.yielding(loops, box, 2)
    content = tissue["bowel"] * (1 + 0.3 * np.tanh(canvas.noise(24, box)))
    canvas.paint(loops + 3, box, content)
    canvas.paint(loops, box, tissue["muscle"])
