"""UNet 3+ in 2D and 3D: full-scale skips, deep supervision, classification-guided module.

Huang, Lin, Tong, Hu, Zhang, Iwamoto, Han, Chen, Wu, "UNet 3+: A Full-Scale Connected UNet for
Medical Image Segmentation", ICASSP 2020. Every decoder level reads every resolution: the encoder
features of the levels above it and of its own level, and the decoder features of the levels below.
"""

from __future__ import annotations

from collections.abc import Sequence

import torch
from torch import Tensor, nn

from volseg.errors import InputError
from volseg.networks.blocks import (
    CONVOLUTION,
    INTERPOLATION,
    MAX_POOL,
    activation_layer,
    initialise_he,
    norm_layer,
    require_spatial_dims,
)
from volseg.networks.contract import NetworkSpec, require_divisible_sides

# Minus the logit of an image without an object: a probability of 2e-9.
_ABSENT = 20.0


class _FullScale(nn.Module):
    """One decoder level: bring every level to its resolution, convolve each, join, convolve."""

    def __init__(self, sources: list[nn.Module], fuse: nn.Module) -> None:
        super().__init__()
        self.sources = nn.ModuleList(sources)
        self.fuse = fuse

    def forward(self, levels: list[Tensor]) -> Tensor:
        parts: list[Tensor] = []
        for level, source in enumerate(self.sources):
            parts.append(source(levels[level]))
        features: Tensor = self.fuse(torch.cat(parts, dim=1))
        return features


class UNet3Plus(nn.Module):
    """UNet 3+; sides must be multiples of ``2 ** (len(channels) - 1)``.

    Args:
        spatial_dims: 2 or 3.
        in_channels: Image channels.
        out_channels: Classes, background included.
        channels: Feature maps an encoder level, full resolution first. Each full-scale skip gives
            ``channels[0]`` maps, a decoder level has that many times the number of levels.
        norm: ``batch`` (the paper), ``none``, ``instance`` or ``group``.
        activation: ``relu`` (the paper), ``leakyrelu``, ``gelu``, ``silu`` or ``prelu``.
        bias: Biases in the convolutions. The published count has them, though ``batch`` and
            ``instance`` subtract them again; needed with ``none``.
        deep_supervision: A head on every level, interpolated to full resolution; a list in
            training.
        classification_guidance: Classify each image as with or without an object from the deepest
            features; without one it is background everywhere. That takes a training loop of your
            own: the losses and recipes here have no term for it, see `segment_and_classify`.

    Raises:
        InputError: An option is out of range.
    """

    def __init__(
        self,
        spatial_dims: int,
        in_channels: int,
        out_channels: int,
        *,
        channels: Sequence[int] = (64, 128, 256, 512, 1024),
        norm: str = "batch",
        activation: str = "relu",
        bias: bool = True,
        deep_supervision: bool = False,
        classification_guidance: bool = False,
    ) -> None:
        super().__init__()
        require_spatial_dims(spatial_dims)
        if len(channels) < 2:
            raise InputError(f"unet3plus needs at least two levels, got channels={list(channels)}.")
        levels = len(channels)
        width = levels * channels[0]  # of every decoder level
        self.divisor = 2 ** (levels - 1)
        self.instance_norm = norm == "instance"
        self.deep_supervision = deep_supervision

        def unit(wide_in: int, wide_out: int) -> nn.Module:
            return nn.Sequential(
                CONVOLUTION[spatial_dims](wide_in, wide_out, 3, padding=1, bias=bias),
                norm_layer(norm, spatial_dims, wide_out),
                activation_layer(activation),
            )

        def upsample(levels_up: int) -> nn.Module:
            if levels_up == 0:
                return nn.Identity()
            mode = INTERPOLATION[spatial_dims]
            return nn.Upsample(scale_factor=2.0**levels_up, mode=mode, align_corners=False)

        def source(level: int, target: int) -> nn.Module:
            """Features of ``level`` brought to the resolution of ``target``, then convolved."""
            if level < target:
                resize: nn.Module = MAX_POOL[spatial_dims](2 ** (target - level), ceil_mode=True)
            else:
                resize = upsample(level - target)
            encoded = level <= target or level == levels - 1
            return nn.Sequential(resize, unit(channels[level] if encoded else width, channels[0]))

        def head(wide_in: int, level: int) -> nn.Module:
            return nn.Sequential(
                CONVOLUTION[spatial_dims](wide_in, out_channels, 3, padding=1), upsample(level)
            )

        self.pool = MAX_POOL[spatial_dims](2)
        self.encoder = nn.ModuleList(
            nn.Sequential(unit(wide_in, wide_out), unit(wide_out, wide_out))
            for wide_in, wide_out in zip([in_channels, *channels[:-1]], channels, strict=True)
        )
        # Deepest first.
        self.decoder = nn.ModuleList(
            _FullScale([source(level, target) for level in range(levels)], unit(width, width))
            for target in range(levels - 2, -1, -1)
        )
        # Full resolution first.
        self.heads = nn.ModuleList(
            head(width if level < levels - 1 else channels[-1], level)
            for level in range(levels if deep_supervision else 1)
        )
        self.classifier: nn.Module | None = None
        if classification_guidance:
            # Background by softmax (the first channel of several) and by sigmoid (none of them).
            absent = torch.full((1, out_channels, *[1] * spatial_dims), -2 * _ABSENT)
            absent[:, 0] = -_ABSENT
            self.absent = nn.Buffer(absent, persistent=False)
            self.classifier = nn.Sequential(
                nn.Dropout(0.5), CONVOLUTION[spatial_dims](channels[-1], 2, 1)
            )
        self.apply(initialise_he)

    def forward(self, x: Tensor) -> Tensor | list[Tensor]:
        """Return logits ``(batch, out_channels, ...)`` on the grid of ``x``.

        In training with deep supervision: a list of logits, all at full resolution, the head of the
        full-resolution level first.

        Raises:
            ShapeError: A side of ``x`` is not a multiple of the total stride.
            InputError: It is trained with classification guidance.
        """
        if not torch.jit.is_scripting():  # type: ignore[attr-defined]
            self._require_own_training()
        logits, _ = self.segment_and_classify(x)
        if self.training and self.deep_supervision:
            return logits
        return logits[0]

    def _require_own_training(self) -> None:
        if self.training and self.classifier is not None:
            raise InputError(
                "unet3plus with classification_guidance was called in training, where its logits "
                "train the segmentation but not the classifier; expected a training loop that "
                "calls segment_and_classify and adds a loss of the presence logits: write one, or "
                "leave classification_guidance out."
            )

    def segment_and_classify(self, x: Tensor) -> tuple[list[Tensor], Tensor]:
        """Return the heads' logits (in evaluation the first head's only) and presence logits.

        The presence logits ``(batch, 2)``, absent and present, are for a classification loss, such
        as the cross entropy of whether the label map of each image holds an object. Their argmax
        passes no gradient: it decides in evaluation only, where an image called absent is
        background (the paper multiplies its logits by zero, a probability of 0.5). Without
        classification guidance they are ``(batch, 0)``.

        Raises:
            ShapeError: A side of ``x`` is not a multiple of the total stride.
        """
        if not torch.jit.is_scripting():  # type: ignore[attr-defined]
            require_divisible_sides(
                "unet3plus", x.shape[2:], self.divisor, instance_norm=self.instance_norm
            )
        levels: list[Tensor] = []
        for level, block in enumerate(self.encoder):
            x = block(x if level == 0 else self.pool(x))
            levels.append(x)
        # From the deepest up, the decoder features of a level take the place of the encoder's.
        for index, decoder in enumerate(self.decoder):
            levels[len(levels) - 2 - index] = decoder(levels)

        logits: list[Tensor] = []
        for level, head in enumerate(self.heads):
            if self.training or level == 0:
                logits.append(head(levels[level]))
        presence = x.new_zeros((x.shape[0], 0))
        if self.classifier is not None:
            presence = self.classifier(levels[-1]).flatten(2).amax(dim=2)
            if not self.training:
                present = presence.argmax(dim=1).reshape([-1] + [1] * (x.dim() - 1)) == 1
                logits = [torch.where(present, one, self.absent.to(one.dtype)) for one in logits]
        return logits, presence


SPEC = NetworkSpec(
    name="unet3plus",
    build=UNet3Plus,
    title="UNet 3+, full-scale skips",
    paper="Huang et al., ICASSP 2020 (arXiv:2004.08790)",
    presets={
        "reference": {"channels": (64, 128, 256, 512, 1024)},
        "tiny": {"channels": (4, 8, 16), "norm": "instance", "bias": False},
    },
    reference_parameters=26_971_777,
    reference_macs=308_831_846_400,
    reference_input={"spatial_dims": 2, "in_channels": 3, "out_channels": 1},
    reference_size=(320, 320),
    published_parameters="26.97 M",
    deep_supervision=True,
)
