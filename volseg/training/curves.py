"""The curves of a training as a picture."""

from __future__ import annotations

import io
import logging
import time
from collections.abc import Mapping, Sequence
from importlib.util import find_spec
from pathlib import Path

import ignite.distributed as idist
from ignite.engine import Engine, Events

from volseg.atomic import replacing
from volseg.training.history import COLUMNS, TrainingHistory

_log = logging.getLogger(__name__)

_SECONDS_BETWEEN = 60.0
_INCHES = (7.0, 6.0)


class DrawCurves:
    """MONAI handler: draws ``curves.png``, at most once a minute and in the end.

    It needs the package matplotlib; without it there is no picture, and the log says so.

    Args:
        history: What is drawn; attach it before.
    """

    PICTURE = "curves.png"

    def __init__(self, history: TrainingHistory) -> None:
        self._history = history
        self._next = time.monotonic() + _SECONDS_BETWEEN

    def attach(self, engine: Engine) -> None:
        """Register with a trainer."""
        if idist.get_rank() != 0:
            return
        if find_spec("matplotlib") is None:
            _log.info('no curves are drawn: pip install "volseg[tracking]" for matplotlib')
            return
        engine.add_event_handler(Events.EPOCH_COMPLETED, self._draw_now_and_then)
        engine.add_event_handler(Events.COMPLETED, self._draw)

    def _draw_now_and_then(self) -> None:
        if time.monotonic() >= self._next:
            self._draw()
            self._next = time.monotonic() + _SECONDS_BETWEEN

    def _draw(self) -> None:
        if self._history.rows:
            draw_curves(self._history.rows, self._history.folder / self.PICTURE)


def draw_curves(rows: Sequence[Mapping[str, float]], path: str | Path) -> None:
    """Draw loss, learning rate and the metrics of validations over the epochs, as a PNG file.

    Args:
        rows: As `TrainingHistory.rows`.
        path: File to write.

    Raises:
        OutputError: The file could not be written.
    """
    from matplotlib.figure import Figure  # noqa: PLC0415 - optional

    figure = Figure(figsize=_INCHES, layout="constrained")
    above, below = figure.subplots(2, 1, sharex=True)
    epochs = [row["epoch"] for row in rows]
    above.plot(epochs, [row["loss"] for row in rows], color="tab:blue", label="loss")
    above.set_ylabel("loss")
    rate = above.twinx()
    rate.plot(epochs, [row["learning_rate"] for row in rows], color="tab:gray", linewidth=1)
    rate.set_ylabel("learning rate", color="tab:gray")
    names = dict.fromkeys(name for row in rows for name in row if name not in COLUMNS)
    for name in names:
        shown = [(row["epoch"], row[name]) for row in rows if name in row]
        below.plot(*zip(*shown, strict=True), marker=".", label=name.replace("_", " "))
    if names:
        below.legend(loc="lower right", fontsize="small")
    below.set_ylabel("held-out cases")
    below.set_xlabel("epoch")
    below.grid(alpha=0.3)
    above.grid(alpha=0.3)
    picture = io.BytesIO()
    figure.savefig(picture, format="png", dpi=120)
    with replacing(path, flush=False) as temporary:
        temporary.write_bytes(picture.getvalue())
