"""Several processes that share batches give what one process gives."""

from __future__ import annotations

import csv
import json
import os
import signal
import time
from functools import partial

import pytest
import torch
from ignite.engine import Engine, Events
from monai.data import list_data_collate
from monai.engines import SupervisedTrainer
from monai.engines.utils import IterationEvents
from monai.networks.blocks import Convolution
from torch import nn

from tests.training.processes import in_processes, wait_at_most
from volseg.data import RandomDraws, SharedBatches
from volseg.errors import InputError, VolsegError
from volseg.losses import (
    DiceCrossEntropyLoss,
    SoftNormalisedCutLoss,
    UNet3PlusLoss,
    UNetPlusPlusLoss,
    WeightedCrossEntropyLoss,
)
from volseg.networks import read_weights
from volseg.processes import process_count, process_rank, set_idle
from volseg.training import TrainingStep, TrainTogether, train_bundle, training_device
from volseg.training.batch_statistics import synchronise_batch_norm
from volseg.training.distributed import (
    average_gradients,
    processes_together,
    share_of_process,
)

IGNORE = 255
LOSSES = {
    "dice of the batch": (DiceCrossEntropyLoss(ignore=IGNORE), "classes"),
    "dice of images": (DiceCrossEntropyLoss(batch=False), "classes"),
    "dice of regions": (DiceCrossEntropyLoss(regions=True, ignore=IGNORE), "regions"),
    "unetplusplus": (UNetPlusPlusLoss(ignore=IGNORE), "classes"),
    "unetplusplus printed": (UNetPlusPlusLoss(as_printed=True), "classes"),
    "unet3plus": (UNet3PlusLoss(batch=True), "classes"),
    "unet3plus of images": (UNet3PlusLoss(ignore=IGNORE), "classes"),
    "weighted": (WeightedCrossEntropyLoss(), "weighted"),
    "normalised cut": (SoftNormalisedCutLoss(radius=2), "image"),
}


def case(number: int) -> tuple[torch.Tensor, dict[str, torch.Tensor]]:
    """A batch of images, and the targets of the losses for it."""
    random = torch.Generator().manual_seed(5)
    image = torch.randn(number, 1, 12, 14, generator=random)
    classes = torch.randint(0, 3, image.shape, generator=random).float()
    classes[0, :, :4] = 0
    marked = classes.clone()
    marked[..., 5] = IGNORE
    weights = torch.rand(image.shape, generator=random)
    regions = (torch.rand(number, 3, 12, 14, generator=random) > 0.5).float()
    targets = {
        "classes": classes,
        "marked": marked,
        "regions": regions.where(marked != IGNORE, IGNORE),
        "weighted": torch.cat([classes, weights], 1),
        "image": image,
    }
    return image, targets


def step(number: int) -> dict[str, dict[str, torch.Tensor]]:
    """A step with each loss on this process's share of a batch: loss, gradients and statistics."""
    image, targets = case(number)
    rank, count = process_rank(), process_count()
    idle = rank >= number
    share = slice(0, 1) if idle else slice(rank, None, count)
    set_idle(idle)
    found = {}
    for name, (loss, kind) in LOSSES.items():
        torch.manual_seed(0)
        network = nn.Sequential(
            Convolution(2, 1, 4, norm="batch", act="leakyrelu"),
            Convolution(2, 4, 3, norm=("batch", {"momentum": None}), act=None),
        )
        if count > 1:
            synchronise_batch_norm(network)
        if kind == "classes" and getattr(loss, "ignore", None):
            kind = "marked"  # noqa: PLW2901
        value = loss(network(image[share]), targets[kind][share])
        value.backward()
        if count > 1:
            average_gradients(network.parameters())
        gradients = {f"d {name}": value.grad for name, value in network.named_parameters()}
        found[name] = {"loss": value.detach(), **gradients, **dict(network.named_buffers())}
    set_idle(False)
    return found


@pytest.fixture(scope="module")
def shared():
    """The step of a batch of five, and of one with fewer cases than processes."""
    return {number: in_processes(2, step, number) for number in (5, 1)}


@pytest.mark.parametrize("number", [5, 1])
@pytest.mark.parametrize("name", LOSSES)
def test_two_processes_have_the_loss_and_the_gradient_of_the_whole_batch(shared, name, number):
    expected = step(number)[name]
    assert any(value.abs().max() > 1e-3 for key, value in expected.items() if key.startswith("d "))
    for found in shared[number]:
        assert found[name].keys() == expected.keys()
        for key, value in expected.items():
            torch.testing.assert_close(found[name][key], value, atol=2e-6, rtol=1e-5, msg=key)


def step_in_parts(number: int, parts: int) -> dict[str, torch.Tensor]:
    """The weights and statistics after a step on a batch that is computed in parts."""
    image, targets = case(number)
    cases = [{"image": image[i], "label": targets["classes"][i]} for i in range(number)]
    batches = SharedBatches(RandomDraws(cases), number)
    torch.manual_seed(0)
    network = nn.Sequential(
        Convolution(2, 1, 4, norm="batch", act="leakyrelu"), Convolution(2, 4, 3, conv_only=True)
    )
    SupervisedTrainer(
        device=torch.device("cpu"),
        max_epochs=1,
        train_data_loader=[
            list_data_collate([cases[draw.case] for draw in batch]) for batch in batches
        ],
        network=network,
        optimizer=torch.optim.SGD(network.parameters(), lr=0.1),
        loss_function=DiceCrossEntropyLoss(),
        iteration_update=TrainingStep(parts=parts),
        train_handlers=[TrainTogether(batches)],
        decollate=False,
    ).run()
    return dict(network.state_dict())


BATCHES_IN_PARTS = ((2, 2), (3, 2), (6, 2), (5, 3))


def steps_in_parts():
    return [step_in_parts(*one) for one in BATCHES_IN_PARTS]


def test_parts_are_of_the_whole_batch_and_their_step_is_that_of_one_process():
    together = in_processes(2, steps_in_parts)
    for expected, *found in zip(steps_in_parts(), *together, strict=True):
        for own in found:
            for name, value in expected.items():
                torch.testing.assert_close(own[name], value, atol=2e-6, rtol=1e-5, msg=name)


def shares(number, batch_size):
    draws = RandomDraws(range(number), times=2, seed=4)
    batches = SharedBatches(draws, batch_size)
    mine = [(batches.is_counted(index), batch) for index, batch in enumerate(batches)]
    assert len(mine) == len(batches)
    return mine


def test_every_draw_is_counted_once_whatever_the_number_of_processes():
    alone = shares(7, 4)
    together = in_processes(3, shares, 7, 4)  # 14 draws: 4, 4, 4 and 2
    assert [len(batch) for _, batch in alone] == [4, 4, 4, 2]
    assert all(counted for counted, _ in alone)
    for index, (_, whole) in enumerate(alone):
        counted = [draw for mine in together for draw in mine[index][1] if mine[index][0]]
        assert sorted(counted) == sorted(whole)
        assert all(mine[index][1] for mine in together)  # a stand-in where there is no share
    assert [mine[-1][0] for mine in together] == [True, True, False]


def too_small():
    with pytest.raises(InputError, match="batch size is 1 for 2 processes"):
        SharedBatches(RandomDraws(range(3)), 1)
    return [share_of_process(list("abcde")), share_of_process(["a"])]


def test_items_are_shared_out_and_a_batch_smaller_than_the_processes_is_refused():
    first, second = in_processes(2, too_small)
    assert first == [["a", "c", "e"], ["a"]]
    assert second == [["b", "d"], ["a"]]
    assert share_of_process(["a", "b"]) == ["a", "b"]


def begin(seed: int, seconds: float) -> int:
    """Begin a training, for which the first process is late; the steps that are taken."""
    torch.manual_seed(seed)
    engine = Engine(lambda engine, batch: None)
    engine.register_events(*IterationEvents)
    engine.network = nn.Linear(2, 2)
    late = seconds if process_rank() == 0 else 0
    engine.add_event_handler(Events.STARTED, lambda: time.sleep(late))
    TrainTogether(SharedBatches(RandomDraws(range(2)), 2)).attach(engine)
    return engine.run([0]).iteration


def begin_late_and_with_other_weights():
    wait_at_most(0.5)
    assert begin(0, seconds=1.5) == 1
    with pytest.raises(InputError, match=r"after the epochs \[0, 0\] with weights that are not"):
        begin(process_rank(), seconds=0)


def test_processes_begin_together_however_late_one_is():
    in_processes(2, begin_late_and_with_other_weights)


def test_auto_is_the_device_that_a_process_takes_itself():
    for device in (None, "auto"):
        with processes_together(device) as where:
            assert where == training_device()


def train(bundle, out, **settings):
    told = []
    trained = train_bundle(
        bundle,
        bundle.parent / "data",
        out,
        settings={"batch_size": 3, "batch_parts": 2, "val_interval": 1, **settings},
        progress=told.append,
    )
    return str(trained.folder), len(told)


def result(folder):
    """What a run leaves behind: the weights, and the loss and the metrics of each epoch."""
    run = folder / "runs" / "fold0"
    with (run / "history.csv").open(newline="") as table:
        rows = [
            {name: float(row[name]) for name in row if name == "loss" or "dice" in name}
            for row in csv.DictReader(table)
        ]
    assert len(rows[0]) > 2
    return read_weights(folder / "models" / "model.pt"), rows


def assert_same(found, expected):
    for name, value in expected[0].items():
        torch.testing.assert_close(found[0][name], value, rtol=1e-5, atol=1e-5, msg=name)
    assert len(found[1]) == len(expected[1])
    for row, wanted in zip(found[1], expected[1], strict=True):
        assert row == pytest.approx(wanted, abs=1e-5, nan_ok=True)


def test_a_bundle_trained_by_any_number_of_processes_is_the_same(tiny_bundle, tmp_path):
    """Four cases in batches of three and one, which leaves a process idle; two are validated.

    A batch of three is computed in parts of two and one, so the second process has none of the
    second part.
    """
    alone, together, both = (tmp_path / name for name in ("alone", "together", "both"))
    (expected,) = in_processes(1, train, tiny_bundle, alone)
    found = in_processes(2, train, tiny_bundle, together)
    assert found[0] == (str(together.resolve()), expected[1])
    assert found[1] == (str(together.resolve()), 0)  # the first alone tells of the progress
    assert_same(result(together), result(alone))
    record = json.loads((together / "runs" / "fold0" / "run.json").read_text())
    assert record["processes"] == 2

    # Stopped after the first epoch, and gone on with by another number of processes.
    in_processes(2, stopped, tiny_bundle, both)
    in_processes(1, train, tiny_bundle, both)
    assert_same(result(both), result(alone))


def stopped(bundle, out):
    attach = TrainTogether.attach

    def attach_and_stop(self, engine):
        attach(self, engine)
        engine.add_event_handler(Events.EPOCH_STARTED(once=2), stop)

    def stop():
        raise InterruptedError

    TrainTogether.attach = attach_and_stop
    try:
        with pytest.raises(InterruptedError):
            train(bundle, out)
    finally:
        TrainTogether.attach = attach


def train_until_one_is_killed(bundle, out):
    attach = TrainTogether.attach

    def attach_and_kill(self, engine):
        attach(self, engine)
        if process_rank() == 1:
            kill = partial(os.kill, os.getpid(), signal.SIGKILL)
            engine.add_event_handler(Events.ITERATION_STARTED(once=4), kill)

    TrainTogether.attach = attach_and_kill
    with pytest.raises(VolsegError) as found:
        train(bundle, out, epochs=3)
    return str(found.value)


def test_where_one_process_is_killed_the_other_says_so_and_the_checkpoint_is_whole(
    tiny_bundle, tmp_path
):
    (said,) = in_processes(
        2, train_until_one_is_killed, tiny_bundle, tmp_path / "killed", all_end=False
    )
    assert "process 0 of 2 stops, as another has ended or cannot be reached" in said
    run = tmp_path / "killed" / "runs" / "fold0"
    assert torch.load(run / "checkpoint.pt", weights_only=True)["epoch"] == 1
    assert not list(run.glob(".volseg-*"))
