"""Two small plain nets for the synthetic-to-real benchmark, trained on one processor core."""

import numpy as np
import torch
from torch import nn
from torch.nn import functional as F


def to_density(images: np.ndarray) -> torch.Tensor:
    """Optical density against each image's own bright level: the lamp's color drops out."""
    x = torch.from_numpy(np.ascontiguousarray(images)).permute(0, 3, 1, 2).float()
    light = torch.quantile(x.flatten(2)[:, :, ::7], 0.95, dim=2)[:, :, None, None]
    return torch.log((light + 8) / (x + 8)).clamp(-0.3, 3.0)


def _block(before: int, after: int) -> nn.Sequential:
    return nn.Sequential(
        nn.Conv2d(before, after, 3, padding=1, bias=False),
        nn.BatchNorm2d(after),
        nn.ReLU(inplace=True),
        nn.Conv2d(after, after, 3, padding=1, bias=False),
        nn.BatchNorm2d(after),
        nn.ReLU(inplace=True),
    )


class SmallUNet(nn.Module):
    """A U-Net that works at half size; three classes: background, cytoplasm, nucleus."""

    def __init__(self, width: int = 24, depth: int = 4) -> None:
        super().__init__()
        widths = [width * min(2**k, 6) for k in range(depth)]
        self.stem = nn.Conv2d(12, width, 3, padding=1)
        self.down = nn.ModuleList(
            _block(a, b) for a, b in zip([width, *widths[:-1]], widths, strict=True)
        )
        self.up = nn.ModuleList(
            _block(a + b, a) for a, b in zip(widths[:-1], widths[1:], strict=True)
        )
        self.head = nn.Conv2d(width, 12, 1)

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        """Return logits of shape (n, 3, H, W)."""
        x = F.relu(self.stem(F.pixel_unshuffle(x, 2)))
        kept = []
        for k, block in enumerate(self.down):
            x = block(F.max_pool2d(x, 2) if k else x)
            kept.append(x)
        for block, skip in zip(reversed(self.up), reversed(kept[:-1]), strict=True):
            x = F.interpolate(x, scale_factor=2.0, mode="bilinear", align_corners=False)
            x = block(torch.cat([skip, x], dim=1))
        return F.pixel_shuffle(self.head(x), 2)


class SmallCNN(nn.Module):
    """Five blocks and a mean over the image."""

    def __init__(self, n_classes: int, width: int = 24) -> None:
        super().__init__()
        widths = [width, 2 * width, 3 * width, 4 * width, 6 * width]
        layers: list[nn.Module] = [nn.Conv2d(12, width, 3, padding=1), nn.ReLU(inplace=True)]
        for a, b in zip([width, *widths[:-1]], widths, strict=True):
            layers += [_block(a, b), nn.MaxPool2d(2)]
        self.body = nn.Sequential(*layers)
        self.head = nn.Sequential(nn.Dropout(0.3), nn.Linear(widths[-1], n_classes))

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        """Return class logits."""
        x = self.body(F.pixel_unshuffle(x, 2))
        return self.head(x.mean(dim=(2, 3)))


def train(
    net: nn.Module,
    batches,
    loss,
    n_steps: int,
    lr: float = 3e-3,
    report=None,
) -> nn.Module:
    """Run one pass over fresh batches (images, target) with AdamW and a one-cycle rate."""
    if n_steps == 0:
        return net.eval()
    optimizer = torch.optim.AdamW(net.parameters(), lr=lr, weight_decay=1e-2)
    schedule = torch.optim.lr_scheduler.OneCycleLR(optimizer, lr, total_steps=n_steps + 1)
    net.train()
    for step, (images, target) in enumerate(batches):
        if step >= n_steps:
            break
        value = loss(net(images), target)
        optimizer.zero_grad()
        value.backward()
        optimizer.step()
        schedule.step()
        if report is not None and step % 50 == 0:
            report(step, float(value.detach()))
    return net.eval()


def segmentation_loss(logits: torch.Tensor, target: torch.Tensor) -> torch.Tensor:
    """Cross-entropy plus soft Dice of the nucleus and of the whole cell."""
    entropy = F.cross_entropy(logits, target)
    share = logits.softmax(dim=1)
    dice = 0.0
    for predicted, true in (
        (share[:, 2], (target == 2).float()),
        (share[:, 1] + share[:, 2], (target > 0).float()),
    ):
        both = 2 * (predicted * true).sum((1, 2)) + 1
        dice += 1 - (both / (predicted.sum((1, 2)) + true.sum((1, 2)) + 1)).mean()
    return entropy + 0.5 * dice
