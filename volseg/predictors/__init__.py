"""Predictors: what computes the logits of tiles, each as fast as its machine allows.

A predictor is a callable ``(tiles, channels, *tile) -> (tiles, classes, *tile)``, float32 to
float32. `make_predictor` chooses one that gives torch's labels.
"""

from volseg.predictors.cache import user_cache_folder
from volseg.predictors.contract import PRECISIONS, Precision, Predictor, TileShapes, tile_shapes
from volseg.predictors.fingerprint import network_fingerprint, value_fingerprint
from volseg.predictors.making import BACKENDS, make_predictor
from volseg.predictors.torch_backend import TorchPredictor
from volseg.predictors.verification import Agreement, check_volume, verified

__all__ = [
    "BACKENDS",
    "PRECISIONS",
    "Agreement",
    "Precision",
    "Predictor",
    "TileShapes",
    "TorchPredictor",
    "check_volume",
    "make_predictor",
    "network_fingerprint",
    "tile_shapes",
    "user_cache_folder",
    "value_fingerprint",
    "verified",
]
