"""What the logits of a voxel mean: how its label is decided, and what its probabilities are."""

from __future__ import annotations

import math
from dataclasses import dataclass

from volseg.errors import InputError


@dataclass(frozen=True)
class Decision:
    """How logits become labels and probabilities.

    The threshold moves labels and leaves probabilities alone; the temperature changes probabilities
    and leaves labels alone. Both are chosen on cases that no network was trained on.

    Attributes:
        regions: Not given: logits of classes, the label is the number of the class with the
            largest probability (the first of equals). Given: each channel is a region that is
            there where its probability exceeds the threshold, and these are their labels; where
            regions overlap, the last one counts.
        threshold: What the probability of a region must exceed, or that of the foreground of two
            classes. Of more classes the largest probability wins: 0.5 stands for that.
        temperature: Probabilities p at a voxel are given as p**(1 / temperature), made to sum to
            one again (over the classes; over yes and no of a region): the softmax of logits divided
            by it (Guo et al., "On calibration of modern neural networks", 2017, section 4.2), taken
            after interpolation, so that their order, and the label, stays.

    Raises:
        InputError: A number is out of range.
    """

    regions: tuple[int, ...] | None = None
    threshold: float = 0.5
    temperature: float = 1.0

    def __post_init__(self) -> None:
        if not 0 < self.threshold < 1:
            raise InputError(
                f"the threshold of a probability is {self.threshold}; expected one between 0 and 1."
            )
        if not 0 < self.temperature < math.inf:
            raise InputError(
                f"the temperature of probabilities is {self.temperature}; expected a positive "
                "number, 1 to leave them alone."
            )

    @property
    def exclusive(self) -> bool:
        """Whether the channels are classes, of which a voxel has one; else they are regions."""
        return self.regions is None

    @property
    def odds(self) -> float:
        """What the probability of yes divided by that of no must exceed."""
        return self.threshold / (1 - self.threshold)

    def require_channels(self, channels: int) -> None:
        """Refuse logits that it does not fit.

        Raises:
            InputError: There is no choice between so many channels, or the threshold is none of
                theirs.
        """
        if self.regions is None and channels < 2:
            raise InputError(
                "one channel of logits leaves no choice of a class: name its label in regions."
            )
        if self.regions is not None and len(self.regions) != channels:
            raise InputError(
                f"regions must name a label for each of the {channels} channels, got "
                f"{list(self.regions)}."
            )
        if self.regions is None and channels > 2 and self.threshold != 0.5:
            raise InputError(
                f"a threshold of {self.threshold:g} was set, but {channels} classes compete and "
                "the most probable one wins: a threshold is for two classes or for regions."
            )

    def highest_label(self, channels: int) -> int:
        """Return the largest label that so many channels of logits can give."""
        return channels - 1 if self.regions is None else max(self.regions)


#: The most probable class, and probabilities as the network gives them.
MOST_PROBABLE = Decision()
