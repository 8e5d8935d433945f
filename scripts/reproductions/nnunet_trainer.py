"""nnU-Net's own trainer with a limit of seconds: copied into nnU-Net's environment and run there.

Network, loss, augmentation, batches, optimiser and
the polynomial decay of the learning rate are nnU-Net's; what decides is time instead of epochs.
Nothing is validated meanwhile, so that all of the time goes into steps.
"""

from __future__ import annotations

import json
import os
import time
from pathlib import Path

import numpy as np
import torch
from nnunetv2.training.nnUNetTrainer.nnUNetTrainer import nnUNetTrainer


class TimedTrainer(nnUNetTrainer):
    """Trains for ``VOLSEG_SECONDS`` with ``VOLSEG_THREADS`` threads from ``VOLSEG_SEED``."""

    def run_training(self):
        """Take steps until the seconds are over; write ``timed.json`` at the end."""
        seconds = float(os.environ["VOLSEG_SECONDS"])
        torch.set_num_threads(int(os.environ["VOLSEG_THREADS"]))
        torch.manual_seed(int(os.environ["VOLSEG_SEED"]))
        np.random.seed(int(os.environ["VOLSEG_SEED"]))  # noqa: NPY002 - nnU-Net draws from it
        self.on_train_start()
        self.network.train()
        steps, passed = 0, 0.0
        start = time.monotonic()
        # Ends as near to the limit as it can: half a step before or after it at the most.
        while not steps or passed + passed / steps / 2 < seconds:
            left = max(0.0, 1 - passed / seconds)
            for group in self.optimizer.param_groups:
                group["lr"] = self.initial_lr * left**0.9
            loss = float(self.train_step(next(self.dataloader_train))["loss"])
            steps, passed = steps + 1, time.monotonic() - start
            print(f"step {steps}, {passed:.0f} of {seconds:.0f} s, loss {loss:.4f}", flush=True)
        self.current_epoch = 1
        self.on_train_end()
        found = {"seconds": round(passed, 1), "steps": steps, "loss": loss}
        found["batch_size"] = int(self.batch_size)
        Path(self.output_folder, "timed.json").write_text(json.dumps(found), encoding="utf-8")

    def perform_actual_validation(self, save_probabilities=False):
        """Leave predicting the held-out cases to ``nnUNetv2_predict``."""
