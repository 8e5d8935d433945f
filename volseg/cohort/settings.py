"""What is asked of every case of a cohort; results are redone where it changes."""

from __future__ import annotations

import hashlib
import json
from collections.abc import Mapping, Sequence
from dataclasses import asdict, dataclass, field
from functools import cached_property
from pathlib import Path
from typing import Any

from volseg.errors import BundleError


@dataclass(frozen=True)
class CohortSettings:
    """What the results of a case depend on, beside its images.

    Attributes:
        bundles: Shipped bundles by name, others by full path; several average.
        digests: SHA-256 of each bundle.
        choices: Arguments of `volseg.Segmenter` that change its labels: ``clean``, ``body_above``
            and ``settings``.
        reading: How images are read, as `read_image` takes it.
        formats: Of the results, names in `volseg.segmenter.RESULT_FORMATS`.
    """

    bundles: tuple[str, ...]
    digests: tuple[str, ...]
    choices: Mapping[str, Any] = field(default_factory=dict)
    reading: Mapping[str, Any] = field(default_factory=dict)
    formats: tuple[str, ...] = ("nifti",)

    @classmethod
    def of_bundles(cls, bundles: Sequence[str | Path], **others: Any) -> CohortSettings:
        """Return settings for bundles as they are now.

        Raises:
            InputError: A bundle does not exist or is damaged.
        """
        from volseg.bundle import open_bundle, shipped_bundles  # noqa: PLC0415 - loads torch

        found = [open_bundle(bundle) for bundle in bundles]
        shipped = shipped_bundles()
        names = [
            str(name) if str(name) in shipped else str(bundle.folder)
            for name, bundle in zip(bundles, found, strict=True)
        ]
        return cls(tuple(names), tuple(bundle.sha256 for bundle in found), **others)

    @cached_property
    def key(self) -> str:
        """A SHA-256 that changes with the settings; where the bundles lie does not count."""
        about = {name: value for name, value in self.as_json().items() if name != "bundles"}
        return hashlib.sha256(json.dumps(about, sort_keys=True).encode()).hexdigest()

    def require_same_bundles(self) -> None:
        """Refuse bundles that are not what they were when the cohort was prepared.

        Raises:
            BundleError: One was changed, or is another one on this machine.
        """
        from volseg.bundle import open_bundle  # noqa: PLC0415 - loads torch

        for name, digest in zip(self.bundles, self.digests, strict=True):
            if open_bundle(name).sha256 != digest:
                raise BundleError(
                    f"the bundle {name} is not the one that the cohort was begun with: run the "
                    "cohort anew, which redoes its cases, or bring the bundle back."
                )

    def as_json(self) -> dict[str, Any]:
        """Return what `from_json` takes."""
        return asdict(self)

    @classmethod
    def from_json(cls, entries: Mapping[str, Any]) -> CohortSettings:
        """Return the settings that `as_json` described."""
        lists = {name: tuple(entries[name]) for name in ("bundles", "digests", "formats")}
        return cls(**{**entries, **lists})
