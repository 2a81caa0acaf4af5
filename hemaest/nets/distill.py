"""Self-distillation: from a part of an image, predict what a teacher sees in all of it.

The teacher is the moving average of the student. What both knew before is kept by an anchor: on
images that the first weights were trained for, the student still has to see what they saw.

:class:`hemaest.deep.FCMAEPretrainer` trains it with ``target="features"``.
"""

import copy

import torch
from torch import Tensor, nn

from hemaest.nets.build import NormalizedNet
from hemaest.nets.fcmae import enlarge


class SelfDistillation(nn.Module):
    """Student, teacher and anchor, of which the student is trained and kept.

    Parameters
    ----------
    encoder : NormalizedNet
        With weights that are worth following.
    patch_size : int, default=16
        Side of the patches that are hidden from the student.
    mask_ratio : float, default=0.4
        Mean proportion of hidden patches; it is drawn for each image, from 0 to twice this.
    momentum : float, default=0.99
        Of the moving average that is the teacher.
    hidden : int, default=512
        Width of the predictor, which is only used in training.

    Examples
    --------
    >>> from hemaest.nets import build_net
    >>> net = SelfDistillation(build_net("cellnet", 0)[0])
    >>> x = torch.rand(4, 3, 64, 64)
    >>> net.losses(x, net.targets(x)).shape
    torch.Size([4])
    """

    # the training network leaves batch norms alone
    fixed_norms = True

    def __init__(
        self,
        encoder: NormalizedNet,
        *,
        patch_size: int = 16,
        mask_ratio: float = 0.4,
        momentum: float = 0.99,
        hidden: int = 512,
    ) -> None:
        super().__init__()
        self.encoder = encoder
        self.teacher = copy.deepcopy(encoder).requires_grad_(False)
        self.anchor = copy.deepcopy(encoder).requires_grad_(False)
        self.patch_size = patch_size
        self.mask_ratio = mask_ratio
        self.momentum = momentum
        width = encoder.num_features
        self.predictor = nn.Sequential(
            nn.Linear(width, hidden), nn.BatchNorm1d(hidden), nn.ReLU(), nn.Linear(hidden, width)
        )

    @property
    def num_features(self) -> int:
        """Length of an embedding."""
        return self.encoder.num_features

    @property
    def stride(self) -> int:
        """Total stride of the encoder."""
        return int(self.encoder.backbone.feature_info[-1]["reduction"])  # type: ignore[index]

    def train(self, mode: bool = True) -> "SelfDistillation":
        """Set the mode; statistics of batch norms stay those that the weights were trained with.

        Views of a batch that is partly hidden have others, and so have rendered cells.
        """
        super().train(mode)
        for part in (*self.encoder.modules(), *self.teacher.modules(), *self.anchor.modules()):
            if isinstance(part, nn.modules.batchnorm._BatchNorm):
                part.eval()
        return self

    def embed(self, x: Tensor) -> Tensor:
        """Return one vector for each image."""
        return self.encoder.embed(x)

    def forward(self, x: Tensor) -> Tensor:
        """Return the last map of images."""
        return self.encoder.features(x)

    @torch.no_grad()
    def follow(self) -> None:
        """Move the teacher a little toward the student."""
        pairs = zip(self.teacher.buffers(), self.encoder.buffers(), strict=True)
        for old, new in (*pairs, *zip(
            self.teacher.parameters(), self.encoder.parameters(), strict=True
        )):  # fmt: skip
            if old.dtype.is_floating_point:
                old.lerp_(new, 1 - self.momentum)
            else:
                old.copy_(new)

    def hide(self, x: Tensor, generator: torch.Generator) -> Tensor:
        """Return images with some patches in the mean color of the rest."""
        n, _, height, width = x.shape
        grid = (-(-height // self.patch_size), -(-width // self.patch_size))
        share = 2 * self.mask_ratio * torch.rand(n, 1, 1, generator=generator)
        visible = torch.rand(n, *grid, generator=generator) >= share
        whole = [side * self.patch_size for side in grid]
        seen = enlarge(visible, *whole)[:, None, :height, :width].to(x.device)
        mean = (x * seen).sum((2, 3), keepdim=True) / seen.sum((2, 3), keepdim=True).clamp(min=1)
        return torch.where(seen, x, mean)

    @torch.no_grad()
    def targets(self, x: Tensor) -> Tensor:
        """Return what the teacher sees in whole images, standardized over the batch."""
        seen = self.teacher.embed(x).float()
        return (seen - seen.mean(0)) / (seen.std(0) + 1e-2)

    def losses(self, x: Tensor, target: Tensor) -> Tensor:
        """Return how far the student's prediction is from the teacher's view, for each image."""
        predicted = self.predictor(self.encoder.embed(x)).float()
        return (predicted - target).square().mean(1)

    def forgotten(self, x: Tensor) -> Tensor:
        """Return how far the student's view of familiar images is from what it was at first."""
        with torch.no_grad():
            before = self.anchor.embed(x).float()
        gap = self.encoder.embed(x).float() - before
        return (gap / (before.std(0) + 1e-2)).square().mean()
