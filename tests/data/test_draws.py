import collections
import os

import pytest
import torch
from monai.data import DataLoader
from monai.transforms import Compose, EnsureTyped, RandGaussianNoised, Transform

from tests.training.processes import in_processes
from volseg.data import Draw, PreparedDraws, RandomDraws
from volseg.errors import InputError
from volseg.processes import process_rank
from volseg.transforms import RandSpatiald


def cases(number=5):
    torch.manual_seed(0)
    return [{"image": torch.rand(1, 12, 10)} for _ in range(number)]


def batches(workers, epochs=2, seed=3, state=None):
    """All batches of some epochs, as one tensor an epoch."""
    transform = Compose(
        [
            EnsureTyped("image", track_meta=False),
            RandSpatiald("image", patch_size=8),
            RandGaussianNoised("image", prob=0.5),
        ]
    )
    dataset = PreparedDraws(cases(), transform)
    draws = RandomDraws(dataset, times=2, seed=seed)
    if state is not None:
        draws.load_state_dict(state)
    loader = DataLoader(
        dataset,
        batch_size=3,
        sampler=draws,
        num_workers=workers,
        persistent_workers=workers > 0,
    )
    found = [torch.cat([batch["image"] for batch in loader]) for _ in range(epochs)]
    return found, draws.state_dict()


def test_the_same_batches_whatever_the_number_of_workers():
    alone, _ = batches(0)
    torch.manual_seed(99)  # what else draws in the process does not matter
    for workers in (1, 2):
        beside, _ = batches(workers)
        assert all(torch.equal(a, b) for a, b in zip(alone, beside, strict=True))
    assert not torch.equal(alone[0], alone[1])
    assert not torch.equal(alone[0], batches(0, seed=4)[0][0])


def test_an_interrupted_run_goes_on_with_the_epoch_that_would_have_come():
    [_, second], _ = batches(0)
    _, state = batches(0, epochs=1)
    [resumed], _ = batches(0, epochs=1, state=state)
    assert torch.equal(resumed, second)


def test_every_case_is_met_once_before_any_is_met_again():
    draws = RandomDraws(range(7), times=3)
    for _ in range(4):
        order = [draw.case for draw in draws]
        assert len(order) == len(draws) == 21
        for start in (0, 7, 14):
            assert sorted(order[start : start + 7]) == list(range(7))
    seeds = collections.Counter(draw.seed for _ in range(5) for draw in draws)
    assert max(seeds.values()) == 1


def test_plain_indices_work_as_in_monai():
    dataset = PreparedDraws(cases(), Compose([EnsureTyped("image")]))
    assert torch.equal(dataset[2]["image"], cases()[2]["image"])
    assert len(dataset[1:3]) == 2


class Noted(Transform):
    """Writes down which cases it is called with."""

    def __init__(self, file):
        self.file = file

    def __call__(self, case):
        with self.file.open("a") as stream:
            stream.write(f"{case['case']}\n")
        return case


def prepare_together(folder):
    """Prepare cases on a disk that the processes share, and on one that each has for itself."""
    named = [{**case, "case": index} for index, case in enumerate(cases())]
    found = []
    for place in (folder / "shared", folder / str(process_rank())):
        dataset = PreparedDraws(named, Compose([Noted(folder / "prepared.txt")]), folder=place)
        found.append(torch.stack([dataset[Draw(index, 0)]["image"] for index in range(5)]))
        os.environ |= {"LOCAL_RANK": "0", "LOCAL_WORLD_SIZE": "1"}  # each on a machine of its own
    return found


def test_processes_share_what_is_prepared(tmp_path):
    expected = torch.stack([case["image"] for case in cases()])
    for found in in_processes(2, prepare_together, tmp_path):
        assert all(torch.equal(one, expected) for one in found)
    counts = collections.Counter((tmp_path / "prepared.txt").read_text().split())
    assert counts == dict.fromkeys("01234", 1 + 2)


@pytest.mark.parametrize(("number", "times"), [(0, 1), (3, 0)])
def test_nothing_to_draw_is_refused(number, times):
    with pytest.raises(InputError, match="expected at least one case"):
        RandomDraws(range(number), times=times)
