"""Which cases are drawn in an epoch, and the seed of every draw.

A draw carries the seed of all that is random about it. What comes of it then depends on the seed
of the run, the epoch and its place in it, and on nothing else: not on the number of processes that
prepare batches, nor on whether the run was interrupted.
"""

from __future__ import annotations

import logging
import math
from collections.abc import Hashable, Iterator, Sequence, Sized
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np
from monai.data import Dataset
from monai.transforms import Compose, RandomizableTrait, Transform
from torch.utils.data import Sampler

from volseg.data.prepared import PreparedCases
from volseg.errors import InputError
from volseg.processes import Meeting, process_count, process_rank, shares_of_work
from volseg.transforms.patch_position import rare_voxels_entry

_log = logging.getLogger(__name__)


class Draw(NamedTuple):
    """One case, to be augmented with one seed."""

    case: int
    seed: int


class RandomDraws(Sampler[Draw]):
    """Draw every case equally often an epoch, in random order, each time with a seed of its own.

    Its state is the number of epochs begun: keep it in the checkpoint.

    Args:
        cases: What is drawn from.
        times: How often each case is drawn in an epoch.
        seed: Of the run.

    Raises:
        InputError: There is no case, or none is to be drawn.
    """

    def __init__(self, cases: Sized, *, times: int = 1, seed: int = 0) -> None:
        if len(cases) < 1 or times < 1:
            raise InputError(
                f"{len(cases)} cases are to be drawn {times} times an epoch; expected at least "
                "one case, and at least once."
            )
        self._cases = len(cases)
        self._times = times
        self._seed = seed
        self._epochs = 0

    def __len__(self) -> int:
        """Return the number of draws in an epoch."""
        return self._cases * self._times

    def __iter__(self) -> Iterator[Draw]:
        """Begin the next epoch."""
        random = np.random.default_rng((self._seed, self._epochs))
        self._epochs += 1
        # Every case is met once before any is met again.
        order = np.concatenate([random.permutation(self._cases) for _ in range(self._times)])
        seeds = random.integers(2**32, size=len(order))
        return iter([Draw(int(i), int(s)) for i, s in zip(order, seeds, strict=True)])

    def state_dict(self) -> dict[str, Any]:
        """Return how many epochs have begun."""
        return {"epochs": self._epochs}

    def load_state_dict(self, state_dict: dict[str, Any]) -> None:
        """Go on after as many epochs."""
        self._epochs = int(state_dict["epochs"])


class SharedBatches(Sampler[list[Draw]]):
    """Batches of draws, of which each process that trains takes its share.

    The batches are the same whatever the number of processes: the n-th of p processes takes the
    draws n, n + p, n + 2p and so on of each. Where a batch has fewer draws than there are
    processes, those without one get its first as a stand-in that is not to be counted.

    Args:
        draws: All draws of an epoch.
        batch_size: Draws of a batch, for all processes together; the last may have fewer.

    Raises:
        InputError: A batch is smaller than the number of processes.
    """

    def __init__(self, draws: RandomDraws, batch_size: int) -> None:
        if batch_size < max(1, process_count()):
            raise InputError(
                f"the batch size is {batch_size} for {process_count()} processes, which share each "
                "batch; expected at least one for each: take a larger batch_size or fewer "
                "processes."
            )
        self.draws = draws
        self.batch_size = batch_size

    def __len__(self) -> int:
        """Return the number of batches in an epoch."""
        return math.ceil(len(self.draws) / self.batch_size)

    def __iter__(self) -> Iterator[list[Draw]]:
        """Begin the next epoch."""
        draws = list(self.draws)
        for start in range(0, len(draws), self.batch_size):
            batch = draws[start : start + self.batch_size]
            yield batch[process_rank() :: process_count()] or batch[:1]

    def is_counted(self, index: int) -> bool:
        """Return whether a batch of the epoch has a share for this process."""
        size = min(self.batch_size, len(self.draws) - index * self.batch_size)
        return process_rank() < size


class PreparedDraws(Dataset):
    """Cases that are prepared once and drawn many times, for `RandomDraws`.

    The transforms before the first random one make a prepared case, which is kept on the disk
    (`PreparedCases`); the others start from it, with the seed of a draw. Plain indices work as in
    MONAI, with the random numbers as they come. Processes that train together share the preparing:
    all of them make the dataset, at about the same time.

    Args:
        data: The cases.
        transform: Composed of transforms.
        folder: Where prepared cases are kept; see `PreparedCases`.

    Raises:
        InputError: A case cannot be prepared; it is named.
        OutputError: A prepared case cannot be written.
    """

    def __init__(
        self,
        data: Sequence[dict[Hashable, Any]],
        transform: Compose,
        *,
        folder: str | Path | None = None,
    ) -> None:
        super().__init__(data)
        first = transform.get_index_of_first(
            lambda one: isinstance(one, RandomizableTrait) or not isinstance(one, Transform)
        )
        steps = transform.transforms
        self.augmentation = Compose([] if first is None else steps[first:])
        self.prepared = PreparedCases(steps[:first], folder)
        meeting = Meeting()
        for share in shares_of_work():
            for case in data[share]:
                self.prepared.make(case)
            meeting.gather(None)
        made = [self.prepared.make(case, check=False) for case in data]
        self._places = [place for place, _ in made]
        self.bytes_on_disk = sum(size for _, size in made)
        _log.info(
            "%d prepared cases, %.1f MB, lie in %s",
            len(data),
            self.bytes_on_disk / 1e6,
            self.prepared.folder,
        )

    def _transform(self, index: int) -> Any:
        made = self.augmentation(self.prepared.read(self.data[index], self._places[index]))
        for patch in made if isinstance(made, list) else [made]:
            patch.pop(rare_voxels_entry("label"), None)  # said where patches are cut
        return made

    def __getitem__(self, index: Any) -> Any:
        """Return the case of a draw."""
        if not isinstance(index, Draw):
            return super().__getitem__(index)
        self.augmentation.set_random_state(seed=index.seed)
        return self._transform(index.case)
