"""nnU-Net's own trainer taking steps when it is told: copied into nnU-Net's environment, run there.

Loss, augmentation, loading, optimiser and step are nnU-Net's; network, patch and batch are given.
"""

from __future__ import annotations

import json
import os
import sys
import time

import torch
from nnunetv2.training.nnUNetTrainer.nnUNetTrainer import nnUNetTrainer

# Empty where another trainer is asked for: nnU-Net imports every file that lies beside its own.
_GIVEN = json.loads(os.environ.get("VOLSEG_STEPS", "{}"))


class StepsTrainer(nnUNetTrainer):
    """Trains what ``VOLSEG_STEPS`` says, as many steps at a time as each line of stdin says."""

    def initialize(self):
        """Give the plan our patch and batch."""
        self.configuration_manager.configuration["patch_size"] = _GIVEN["patch"]
        self.configuration_manager.configuration["batch_size"] = _GIVEN["batch_size"]
        super().initialize()

    @staticmethod
    def build_network_architecture(*_arguments, **_keywords):
        """Return volseg's network, with weights that are always the same."""
        from volseg.networks import build_network  # noqa: PLC0415 - on nnU-Net's path by then

        torch.manual_seed(0)
        return build_network(**_GIVEN["network"])

    def _get_deep_supervision_scales(self):
        return [[0.5**level] * len(_GIVEN["patch"]) for level in range(len(_GIVEN["weights"]))]

    def _build_loss(self):
        loss = super()._build_loss()
        loss.weight_factors = tuple(_GIVEN["weights"])  # its own would leave the last head out
        return loss

    def set_deep_supervision_enabled(self, enabled):
        """Leave it to the network, whose heads are all there in training."""

    def run_training(self):
        """Take steps; write what they took as a line of JSON that begins with ``steps: ``."""
        torch.set_num_threads(_GIVEN["threads"])
        self.on_train_start()
        self.network.train()
        for line in sys.stdin:
            # As of the other loops: from the first batch on, whose wait is the start of a turn.
            batch = next(self.dataloader_train)
            started, waited, computed = time.perf_counter(), 0.0, 0.0
            for step in range(int(line)):
                if step:
                    before = time.perf_counter()
                    batch = next(self.dataloader_train)
                    waited += time.perf_counter() - before
                before = time.process_time()
                self.train_step(batch)
                computed += time.process_time() - before
            took = {"seconds": time.perf_counter() - started, "waited": waited}
            print("steps:", json.dumps(took | {"processor": computed}), flush=True)
        self.dataloader_train._finish()
        self.dataloader_val._finish()

    def perform_actual_validation(self, save_probabilities=False):
        """Leave it: nothing is to be validated."""
