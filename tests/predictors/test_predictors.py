"""Predictors give what torch gives, say what they cannot do, and give their memory back."""

from __future__ import annotations

import collections
import copy
import gc
import signal
import subprocess
import sys
from functools import cache
from pathlib import Path

import pytest
import torch
from monai.networks.nets import DynUNet
from torch import nn

from volseg.errors import InputError, MissingPackageError, ShapeError, UnknownNameError
from volseg.networks import build_network
from volseg.predictors import (
    TorchPredictor,
    check_volume,
    make_predictor,
    openvino_backend,
    tile_shapes,
    verified,
)
from volseg.predictors.exact_normalisation import with_exact_normalisation
from volseg.predictors.openvino_backend import OpenVINOPredictor, core

# torch's exporter calls torch's own deprecated functions.
pytestmark = pytest.mark.filterwarnings(
    "ignore:.*isinstance.treespec, LeafSpec.. is deprecated:FutureWarning"
)

# Of the largest difference to the standard deviation of torch's logits.
EXACT = 1e-4
# Rounding to eight bits in every layer; measured on these networks with random weights: 0.06.
BFLOAT16 = 0.3

CASES = {
    "monai_unet2d": ("monai_unet", (48, 32)),
    "unet3d": ("unet", (32, 16, 24)),
}


@cache
def network(case: str) -> nn.Module:
    """A network with statistics and weights as after training, in evaluation."""
    torch.manual_seed(0)
    name, tile = CASES[case]
    built = build_network(
        name, spatial_dims=len(tile), in_channels=2, out_channels=3, preset="tiny"
    )
    for parameter in built.parameters():
        if parameter.ndim == 1:
            nn.init.normal_(parameter, mean=float(parameter.detach().mean()), std=0.1)
    return built.eval()


@pytest.fixture(scope="module")
def folder(tmp_path_factory) -> Path:
    return tmp_path_factory.mktemp("converted")


def predictor(case: str, backend: str, folder: Path, **options):
    return make_predictor(
        network(case),
        tile=CASES[case][1],
        in_channels=2,
        backend=backend,
        cache=folder,
        **options,
    )


def difference(found: torch.Tensor, right: torch.Tensor) -> float:
    return float((found - right).abs().max() / right.std())


@pytest.mark.parametrize("backend", ["torch", "openvino", "onnxruntime"])
@pytest.mark.parametrize("case", CASES)
def test_every_backend_gives_the_logits_of_the_network(case, backend, folder):
    made = predictor(case, backend, folder)
    tiles = torch.randn(3, *made.shapes.image, generator=torch.Generator().manual_seed(1))
    with torch.no_grad():
        right = network(case)(tiles)
    found = made(tiles)
    assert found.shape[1:] == made.shapes.logits
    assert found.dtype == torch.float32
    assert difference(found, right) < EXACT
    # The same labels wherever rounding does not decide.
    best = right.topk(2, dim=1).values
    decided = best[:, 0] - best[:, 1] > 2 * EXACT * right.std()
    assert decided.float().mean() > 0.99
    assert torch.equal(found.argmax(1)[decided], right.argmax(1)[decided])
    found.mul_(2)  # the caller may work in place
    assert difference(made(tiles[1:2]), right[1:2]) < EXACT


def test_valid_convolutions_give_smaller_logits():
    built = build_network(
        "unet2015", spatial_dims=2, in_channels=1, out_channels=2, preset="tiny"
    ).eval()
    shapes = tile_shapes(built, 1, (44, 60))
    assert shapes.logits == (2, 44 - 2 * built.border, 60 - 2 * built.border)
    made = make_predictor(built, tile=(44, 60), in_channels=1, backend="torch")
    assert made(torch.zeros(2, 1, 44, 60)).shape == (2, *shapes.logits)


def test_a_cpu_gets_openvino_and_its_f32(folder):
    made = predictor("monai_unet2d", "auto", folder)
    assert made.name.startswith("OpenVINO 20")
    assert made.precision == "f32"
    assert made.device == torch.device("cpu")


def test_a_network_that_does_not_convert_runs_in_torch(caplog, folder):
    class Sorted(nn.Module):
        def __init__(self):
            super().__init__()
            self.kernel = nn.Conv2d(1, 2, 3, padding=1)

        def forward(self, image):
            logits = self.kernel(image)
            if image.device.type != "meta" and logits.sum() > 0:  # no graph holds this
                logits = logits + 1
            return logits

    built = Sorted()
    arguments = {"tile": (8, 8), "in_channels": 1, "cache": folder}
    made = make_predictor(built, **arguments)
    assert made.name.startswith("torch")
    assert "Sorted cannot be converted for OpenVINO" in caplog.text
    image = torch.randn(1, 1, 8, 8)
    assert torch.equal(made(image), built(image))
    with pytest.raises(InputError, match="Sorted cannot be converted for OpenVINO"):
        make_predictor(built, backend="openvino", **arguments)


def test_compiled_gives_the_same_logits():
    layers = [nn.Conv2d(1, 4, 3), nn.InstanceNorm2d(4), nn.LeakyReLU(), nn.Conv2d(4, 2, 1)]
    built = nn.Sequential(*layers).eval()
    compiled = make_predictor(built, tile=(16, 24), in_channels=1, backend="compile")
    assert compiled.name.endswith("compiled")
    tiles = check_volume(compiled.shapes, 1)
    with torch.no_grad():
        assert difference(compiled(tiles), built(tiles)) < EXACT


def test_compiling_without_a_compiler_says_so(monkeypatch):
    import torch._inductor.config as inductor

    monkeypatch.setattr(inductor.cpp, "cxx", ("no-such-compiler",))
    monkeypatch.setattr(inductor, "force_disable_caches", True)
    torch.compiler.reset()
    with pytest.raises(InputError, match=r"torch.compile cannot compile Conv2d .* C\+\+ compiler"):
        make_predictor(nn.Conv2d(1, 2, 3), tile=(9, 7), in_channels=1, backend="compile")


def test_bfloat16_only_where_the_processor_has_it(folder):
    if "BF16" not in core().get_property("CPU", "OPTIMIZATION_CAPABILITIES"):
        for backend in ("auto", "openvino"):
            with pytest.raises(InputError, match="has no instructions for bf16: use f32"):
                predictor("unet3d", backend, folder, precision="bf16")
        return
    made = predictor("unet3d", "openvino", folder, precision="bf16")
    with torch.no_grad():
        right = network("unet3d")(check_volume(made.shapes))
    assert difference(made(check_volume(made.shapes)), right) < BFLOAT16


@pytest.mark.skipif(
    torch.backends.cpu.get_cpu_capability() != "AVX512",
    reason="OpenVINO computes in bfloat16 on processors with AVX-512 only",
)
def test_bfloat16_is_within_its_rounding(folder):
    predictor("unet3d", "openvino", folder).close()
    shapes = tile_shapes(network("unet3d"), 2, CASES["unet3d"][1])
    tiles = check_volume(shapes)
    with torch.no_grad():
        right = network("unet3d")(tiles)
    errors = {}
    for entry in folder.glob("openvino-*/network.xml"):
        files = (entry, entry.with_suffix(".bin"))
        for precision in ("f32", "bf16"):
            try:
                made = OpenVINOPredictor(files, shapes, precision)
                errors[precision] = difference(made(tiles), right)
            except RuntimeError:  # the entry of another network
                break
    assert errors["f32"] < EXACT < errors["bf16"] < BFLOAT16


@pytest.mark.parametrize("backend", ["torch", "onnxruntime"])
def test_other_precisions_are_refused_on_a_cpu(backend, folder):
    with pytest.raises(InputError, match="f32"):
        predictor("monai_unet2d", backend, folder, precision="bf16")


def test_tiles_of_a_batch_are_each_as_if_alone(folder):
    made = predictor("unet3d", "openvino", folder)
    tiles = torch.randn(5, *made.shapes.image, generator=torch.Generator().manual_seed(3))
    together = made(tiles)  # two at a time, and one that is left
    alone = torch.cat([made(tile) for tile in tiles.split(1)])
    assert difference(together, alone) < 1e-5


def test_large_tiles_stay_exact(folder):
    # As OpenVINO 2026.4 adds by itself, this differs by 1e-3.
    torch.manual_seed(0)
    built = nn.Sequential(
        *(nn.Conv3d(1, 16, 3), nn.InstanceNorm3d(16), nn.LeakyReLU()),
        *(nn.Conv3d(16, 16, 3), nn.GroupNorm(16, 16), nn.LeakyReLU(), nn.Conv3d(16, 2, 1)),
    ).eval()
    tile = (96, 96, 96)
    tiles = torch.randn(1, 1, *tile) + 3
    made = make_predictor(
        built, tile=tile, in_channels=1, backend="openvino", cache=folder, check_tiles=tiles
    )
    with torch.no_grad():
        assert difference(made(tiles), built(tiles)) < 5e-5


@pytest.mark.parametrize(("sides", "affine"), [((7,), False), ((6, 7), True), ((5, 6, 7), True)])
def test_normalisations_are_rewritten_exactly(sides, affine):
    dims = len(sides)
    torch.manual_seed(0)
    kind = {1: nn.InstanceNorm1d, 2: nn.InstanceNorm2d, 3: nn.InstanceNorm3d}[dims]
    tracked = kind(6, affine=affine, track_running_stats=True)
    tracked.running_mean.normal_()
    tracked.running_var.uniform_(0.5, 1.5)
    built = nn.Sequential(kind(6, affine=affine), nn.GroupNorm(3, 6, affine=affine), tracked)
    for parameter in built.parameters():
        nn.init.normal_(parameter)
    image = 5 + 3 * torch.randn(2, 6, *sides)
    with torch.no_grad():
        program = with_exact_normalisation(torch.export.export(built.eval(), (image,)))
        names = {str(node.target) for node in program.graph.nodes}
        assert not {name for name in names if "instance_norm" in name or "group_norm" in name}
        torch.testing.assert_close(program.module()(image), built(image), rtol=1e-5, atol=1e-5)


def test_a_program_is_the_same_network_traced_once_or_by_openvino_itself(tmp_path, monkeypatch):
    torch.manual_seed(0)
    built = nn.Sequential(
        *(nn.Conv2d(1, 4, 3, padding=1), nn.InstanceNorm2d(4, affine=True), nn.LeakyReLU()),
        *(nn.Conv2d(4, 4, 3, padding=1), nn.GroupNorm(2, 4), nn.SiLU()),
        *(nn.MaxPool2d(2), nn.Upsample(scale_factor=2, mode="bilinear"), nn.Conv2d(4, 2, 1)),
    ).eval()
    image = torch.randn(1, 1, 16, 12)
    shapes = tile_shapes(built, 1, (16, 12))
    kinds, logits = {}, {}
    for way in ("once", "by OpenVINO"):
        files = [tmp_path / f"{way}.xml", tmp_path / f"{way}.bin"]
        with torch.no_grad():
            openvino_backend.convert(torch.export.export(built, (image,)), shapes)(files)
        nodes = core().read_model(*map(str, files)).get_ops()
        kinds[way] = collections.Counter(node.get_type_name() for node in nodes)
        logits[way] = openvino_backend.load(files, shapes, "f32")(image)
        monkeypatch.setattr(openvino_backend, "_as_read", with_exact_normalisation)
    assert kinds["once"] == kinds["by OpenVINO"]
    assert torch.equal(logits["once"], logits["by OpenVINO"])


def test_names_and_places_that_cannot_be_used_are_refused(folder):
    with pytest.raises(UnknownNameError, match="did you mean 'openvino'"):
        predictor("monai_unet2d", "openvinu", folder)
    with pytest.raises(UnknownNameError, match="unknown precision 'bf61': did you mean 'bf16'"):
        predictor("monai_unet2d", "torch", folder, precision="bf61")
    with pytest.raises(InputError, match="computes on an NVIDIA GPU, got the device 'cpu'"):
        predictor("monai_unet2d", "tensorrt", folder)
    with pytest.raises(MissingPackageError, match="pip install tensorrt"):
        predictor("monai_unet2d", "tensorrt", folder, device="cuda")
    with pytest.raises(InputError, match="computes on the CPU, got the device 'cuda'"):
        predictor("monai_unet2d", "openvino", folder, device="cuda")


def test_what_a_network_shares_stays_as_it_is():
    """MONAI's DynUNet holds its blocks by two names; other networks tie their weights."""
    built = DynUNet(
        spatial_dims=2,
        in_channels=1,
        out_channels=2,
        kernel_size=[3] * 3,
        strides=[1, 2, 2],
        upsample_kernel_size=[2] * 2,
        filters=[4, 8, 8],
    )
    built.extra = nn.Conv2d(4, 8, 3)
    built.extra.weight = built.downsamples[0].conv1.conv.weight
    before = copy.deepcopy(built.state_dict())
    assert tile_shapes(built, 1, (32, 16)).logits == (2, 32, 16)
    after = built.state_dict()
    assert all(torch.equal(after[name], value) for name, value in before.items())
    assert built.extra.weight is built.downsamples[0].conv1.conv.weight


@pytest.mark.parametrize("backend", ["torch", "openvino"])
def test_a_tile_must_fit_the_stride(backend):
    with pytest.raises(ShapeError, match="multiples of 4, got 30 x 32: pad the input to 32 x 32"):
        make_predictor(network("monai_unet2d"), tile=(30, 32), in_channels=2, backend=backend)
    with pytest.raises(ShapeError, match="does not take tiles of 1 channel"):
        make_predictor(network("monai_unet2d"), tile=(32, 32), in_channels=1, backend=backend)


@pytest.mark.parametrize("backend", ["torch", "openvino", "onnxruntime"])
def test_tiles_of_another_size_and_closed_predictors_are_refused(backend, folder):
    made = predictor("monai_unet2d", backend, folder)
    for wrong in (torch.zeros(1, 2, 48, 48), torch.zeros(1, 2, 48, 32, dtype=torch.float64)):
        with pytest.raises(ShapeError, match=r"float32 tiles of \(tiles, 2, 48, 32\)"):
            made(wrong)
    made.close()
    made.close()
    with pytest.raises(InputError, match="closed"):
        made(torch.zeros(1, 2, 48, 32))


def test_weights_from_inference_mode_convert(folder):
    with torch.inference_mode():
        built = nn.Conv2d(1, 2, 3, padding=1)
        image = torch.randn(2, 1, 8, 8)
        made = make_predictor(built, tile=(8, 8), in_channels=1, cache=folder)
        assert made.name.startswith("OpenVINO")
        assert difference(made(image), built(image)) < EXACT


@pytest.mark.skipif(not hasattr(signal, "setitimer"), reason="needs interval timers")
def test_an_interrupted_predictor_works_again(folder):
    class TimerError(Exception):
        pass

    def interrupt(*_):
        raise TimerError

    made = predictor("unet3d", "openvino", folder)
    tiles = check_volume(made.shapes)
    right = made(tiles)
    before = signal.signal(signal.SIGALRM, interrupt)
    try:
        signal.setitimer(signal.ITIMER_REAL, 0.05)
        with pytest.raises(TimerError):
            collections.deque((made(tiles) for _ in range(10_000)), maxlen=0)
    finally:
        signal.setitimer(signal.ITIMER_REAL, 0)
        signal.signal(signal.SIGALRM, before)
    assert torch.equal(made(tiles), right)


TWO_PREDICTORS = """
import gc, signal, sys
from pathlib import Path
from torch import nn
from volseg.predictors import make_predictor

def made(side):
    return make_predictor(
        nn.Conv2d(1, 1, 1),
        tile=(side, side),
        in_channels=1,
        backend="openvino",
        cache=Path(sys.argv[1]),
    )

first, second = made(16), made(32)
for one in (first, second):
    one.close()
del first, second, one
gc.collect()
signal.signal(signal.SIGINT, lambda *_: print("interrupted"))
signal.raise_signal(signal.SIGINT)
"""


def test_signals_are_handled_after_predictors_end_in_any_order(folder):
    words = [sys.executable, "-W", "ignore", "-c", TWO_PREDICTORS, str(folder)]
    done = subprocess.run(words, capture_output=True, text=True, check=False)
    assert (done.returncode, done.stdout) == (0, "interrupted\n"), done.stderr


@pytest.mark.skipif(sys.platform != "linux", reason="reads /proc")
@pytest.mark.parametrize("backend", ["openvino", "onnxruntime"])
def test_memory_is_given_back(backend, folder):
    def resident() -> float:
        gc.collect()
        return int(Path("/proc/self/statm").read_text().split()[1]) * 4096 / 2**20

    built = nn.Sequential(nn.Conv2d(1, 16, 3, padding=1), nn.ReLU(), nn.Conv2d(16, 8, 1)).eval()
    after = []
    for _ in range(12):
        made = make_predictor(built, tile=(512, 512), in_channels=1, backend=backend, cache=folder)
        made(torch.zeros(2, *made.shapes.image))
        made.close()
        after.append(resident())
    # Each held 16 MiB of features and as many of logits; threads keep some of the first.
    assert after[-1] - after[6] < 32


def test_verification_sees_a_change_of_labels(caplog):
    built = network("unet3d")
    shapes = tile_shapes(built, 2, CASES["unet3d"][1])
    reference = TorchPredictor(built, shapes, device=torch.device("cpu"))
    tiles = check_volume(shapes)
    assert verified(reference, reference, tiles).accepted
    wrong = copy.deepcopy(built)
    with torch.no_grad():
        wrong.heads[-1].bias += torch.tensor([0.0, 0.3, 0.0])
    agreement = verified(TorchPredictor(wrong, shapes, device=reference.device), reference, tiles)
    assert not agreement.accepted
    assert 0.001 < agreement.labels < 1
    assert "of the foreground voxels" in agreement.reason
    assert agreement.reason in caplog.text

    shifted = copy.deepcopy(built)  # the labels of a softmax do not see this
    with torch.no_grad():
        shifted.heads[-1].bias += 1
    made = TorchPredictor(shifted, shapes, device=reference.device)
    assert verified(made, reference, tiles).accepted
    assert "logits that differ" in caplog.text
    assert not verified(made, reference, tiles, exclusive=False).accepted

    with torch.no_grad():
        built, shifted = copy.deepcopy(built), copy.deepcopy(built)
        built.heads[-1].bias += torch.tensor([1000.0, 0.0, 0.0])  # never any foreground
        shifted.heads[-1].bias += torch.tensor([1001.0, 0.0, 0.0])
    reference = TorchPredictor(built, shapes, device=reference.device)
    agreement = verified(TorchPredictor(shifted, shapes, device=reference.device), reference, tiles)
    assert agreement.foreground == 0
    assert "without foreground" in agreement.reason


@pytest.mark.parametrize("exclusive", [True, False])
def test_a_reduced_precision_is_not_blamed_for_its_rounding(exclusive):
    """Of two classes that are nearly alike, either is right; of others it is not."""
    shapes = tile_shapes(network("unet3d"), 2, CASES["unet3d"][1])
    reference = TorchPredictor(network("unet3d"), shapes, device=torch.device("cpu"))
    tiles = check_volume(shapes)

    def rounded(built, precision):
        """Return a predictor whose logits are off as eight bits in every layer make them."""
        exact = TorchPredictor(built, shapes, device=reference.device)

        def logits(tiles):
            found = exact(tiles)
            noise = torch.randn(found.shape, generator=torch.Generator().manual_seed(2))
            return found + 0.01 * found.std() * noise

        logits.name, logits.precision = "rounded", precision
        return logits

    exact = verified(rounded(network("unet3d"), "f32"), reference, tiles, exclusive=exclusive)
    assert not exact.accepted
    assert exact.undecided == 0
    reduced = verified(rounded(network("unet3d"), "bf16"), reference, tiles, exclusive=exclusive)
    assert reduced.accepted
    assert reduced.labels + reduced.undecided == pytest.approx(exact.labels)

    wrong = copy.deepcopy(network("unet3d"))
    with torch.no_grad():
        wrong.heads[-1].bias += torch.tensor([0.0, 0.6, 0.0])
    assert not verified(rounded(wrong, "bf16"), reference, tiles, exclusive=exclusive).accepted


def test_the_check_volume_is_the_same_always():
    shapes = tile_shapes(network("unet3d"), 2, CASES["unet3d"][1])
    volume = check_volume(shapes)
    assert volume.shape == (2, 2, 32, 16, 24)
    assert torch.equal(volume, check_volume(shapes))
    assert not torch.equal(volume[0], volume[1])
    torch.testing.assert_close(volume.mean((2, 3, 4)), torch.zeros(2, 2), rtol=0, atol=1e-5)
    torch.testing.assert_close(volume.std((2, 3, 4)), torch.ones(2, 2), rtol=1e-5, atol=0)
