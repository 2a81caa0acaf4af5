"""Self-distillation: from a part of an image, predict what a teacher sees in all of it.

The teacher is the moving average of the student. What both knew before is kept by an anchor: on
images that the first weights were trained for, the student still has to see what they saw.

:class:`hemaest.deep.FCMAEPretrainer` trains :class:`SelfDistillation` with ``target="features"``
and :class:`TypeMatching` with ``target="types"``.
"""

import copy

import torch
from torch import Tensor, nn
from torch.nn import functional as F

from hemaest.nets.build import IMAGENET_MEAN, IMAGENET_STD, NormalizedNet
from hemaest.nets.cellnet import BloodCellNet, Seen, recolor
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

    def follow(self) -> None:
        """Move the teacher a little toward the student."""
        move_toward(self.teacher, self.encoder, 1 - self.momentum)

    def hide(self, x: Tensor, generator: torch.Generator) -> Tensor:
        """Return images with some patches in the mean color of the rest."""
        return hide_patches(x, self.patch_size, self.mask_ratio, generator)

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


class TypeMatching(nn.Module):
    """The network of cell types on its way to a laboratory that has no labels.

    What the teacher is fairly sure to see in a whole image, the student has to see in a part of it,
    in other colors. A type that the teacher names often must be clearer than a rare one, so that
    no type takes over. Batch norms see the images of the laboratory and rendered ones apart.

    Parameters
    ----------
    net : BloodCellNet
        As it ships.
    patch_size : int, default=16
        Side of the patches that are hidden from the student.
    mask_ratio : float, default=0.25
        Mean proportion of hidden patches; it is drawn for each image, from 0 to twice this.
    momentum : float, default=0.99
        Of the moving average that is the teacher.
    evenness : float, default=0.5
        Exponent of the mean probability of a type, by which it is divided.
    sharpness : float, default=2.0
        Exponent of what the teacher says, before the student learns it.
    least : float, default=0.5
        Images of whose type the teacher is less sure are left out.

    References
    ----------
    Sohn et al., "FixMatch" (NeurIPS 2020); Berthelot et al., "AdaMatch" (ICLR 2022).

    Examples
    --------
    >>> tiny = BloodCellNet(5, 3, channels=(8, 8, 8, 16), depths=(1, 1, 1, 1))
    >>> net = TypeMatching(tiny)
    >>> x = torch.rand(4, 3, 64, 64)
    >>> net.losses(x, net.targets(x)).shape
    torch.Size([4])
    """

    def __init__(
        self,
        net: BloodCellNet,
        *,
        patch_size: int = 16,
        mask_ratio: float = 0.25,
        momentum: float = 0.99,
        evenness: float = 0.5,
        sharpness: float = 2.0,
        least: float = 0.5,
    ) -> None:
        super().__init__()
        self.student = net
        self.teacher = copy.deepcopy(net).requires_grad_(False)
        self.anchor = copy.deepcopy(net).requires_grad_(False)
        self.patch_size = patch_size
        self.mask_ratio = mask_ratio
        self.momentum = momentum
        self.evenness = evenness
        self.sharpness = sharpness
        self.least = least
        n_types = net.classify.out_features
        self.register_buffer("shares", torch.full((n_types,), 1 / n_types))

    @property
    def encoder(self) -> NormalizedNet:
        """The encoder of the student, behind the interface of all networks."""
        encoder = NormalizedNet(self.student.encoder, IMAGENET_MEAN, IMAGENET_STD)
        return encoder.to(self.shares.device)

    @property
    def num_features(self) -> int:
        """Length of an embedding."""
        return self.encoder.num_features

    @property
    def stride(self) -> int:
        """Total stride of the encoder."""
        return int(self.student.encoder.feature_info[-1]["reduction"])  # type: ignore[call-overload]

    def train(self, mode: bool = True) -> "TypeMatching":
        """Set the mode; the anchor stays what it was."""
        super().train(mode)
        self.anchor.eval()
        return self

    def embed(self, x: Tensor) -> Tensor:
        """Return one vector for each image: the mean of the last map, as other networks do."""
        return self.encoder.embed(x)

    def forward(self, x: Tensor) -> Tensor:
        """Return the logits of the types; all batch norms of the student see the images."""
        return self.student(x).logits

    def follow(self) -> None:
        """Move the teacher a little toward the student."""
        move_toward(self.teacher, self.student, 1 - self.momentum)

    def hide(self, x: Tensor, generator: torch.Generator) -> Tensor:
        """Return images with some patches in the mean color of the rest."""
        return hide_patches(x, self.patch_size, self.mask_ratio, generator)

    @torch.no_grad()
    def targets(self, x: Tensor) -> Tensor:
        """Return the probability of each type: what the teacher sees in whole images, sharper."""
        found = self.teacher(x).logits.float().softmax(1)
        self.shares.lerp_(found.mean(0), 0.02)
        return sharper(found, self.shares, self.evenness, self.sharpness)

    @torch.no_grad()
    def recolored(self, x: Tensor) -> Tensor:
        """Return rendered cells with nuclei of one color, as the second look sees cells."""
        return recolor(x, self.anchor(x).outline.float().softmax(1))

    def losses(self, x: Tensor, target: Tensor) -> Tensor:
        """Return how far the student is from the teacher, for each image."""
        sure = target.max(1).values
        entropy = F.cross_entropy(self.student(x).logits.float(), target, reduction="none")
        return entropy * sure * (sure > self.least)

    def forgotten(self, x: Tensor) -> Tensor:
        """Return how far the student's view of rendered cells is from what it was at first."""
        with torch.no_grad():
            before = _floats(self.anchor(x))
        now = _floats(self.student(x))
        return (
            F.cross_entropy(now.logits, before.logits.softmax(1))
            + 0.5 * F.cross_entropy(now.outline, before.outline.softmax(1))
            + F.smooth_l1_loss(now.traits, before.traits, beta=0.5)
            + 0.3 * F.binary_cross_entropy_with_logits(now.familiar, before.familiar.sigmoid())
        )


def _floats(seen: Seen) -> Seen:
    return Seen(*(part.float() for part in vars(seen).values()))


def sharper(found: Tensor, shares: Tensor, evenness: float, sharpness: float) -> Tensor:
    """Return probabilities that are nearer to 0 and 1, with frequent types held back.

    Examples
    --------
    >>> found = torch.tensor([[0.6, 0.4]])
    >>> sharper(found, torch.tensor([0.5, 0.5]), 0.5, 2.0).numpy().round(2)
    array([[0.69, 0.31]], dtype=float32)
    >>> sharper(found, torch.tensor([0.9, 0.1]), 0.5, 2.0).numpy().round(2)
    array([[0.2, 0.8]], dtype=float32)
    """
    held = found / (shares + 1e-3) ** evenness
    held = (held / held.sum(1, keepdim=True)) ** sharpness
    return held / held.sum(1, keepdim=True)


@torch.no_grad()
def move_toward(old: nn.Module, new: nn.Module, share: float) -> None:
    """Move the weights of a network a little toward those of another one."""
    for a, b in zip(
        (*old.buffers(), *old.parameters()), (*new.buffers(), *new.parameters()), strict=True
    ):
        if a.dtype.is_floating_point:
            a.lerp_(b, share)
        else:
            a.copy_(b)


def hide_patches(x: Tensor, side: int, mean_share: float, generator: torch.Generator) -> Tensor:
    """Return images with some patches in the mean color of the rest.

    How many is drawn for each image, from 0 to twice the mean share.

    Examples
    --------
    >>> x = torch.ones(1, 3, 8, 8)
    >>> torch.equal(hide_patches(x, 4, 0.5, torch.Generator().manual_seed(0)), x)
    True
    """
    n, _, height, width = x.shape
    grid = (-(-height // side), -(-width // side))
    share = 2 * mean_share * torch.rand(n, 1, 1, generator=generator)
    visible = torch.rand(n, *grid, generator=generator) >= share
    seen = enlarge(visible, *(k * side for k in grid))[:, None, :height, :width].to(x.device)
    mean = (x * seen).sum((2, 3), keepdim=True) / seen.sum((2, 3), keepdim=True).clamp(min=1)
    return torch.where(seen, x, mean)
