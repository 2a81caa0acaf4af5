"""The skorch net of masked pretraining: the classifiers' loop with another loss."""

from typing import Any

import torch
from torch import Tensor, nn

from hemaest.deep._net import ClassifierNet
from hemaest.nets.devices import autocast


class PretrainNet(ClassifierNet):
    """Train a masked autoencoder; labels are there in name only, weights as in the classifiers."""

    @property
    def learner(self) -> nn.Module:
        """All of it learns: encoder and decoder."""
        return self.module_

    def training_loss(
        self, images: Tensor, target: Tensor, weight: Tensor
    ) -> tuple[Tensor, Tensor]:
        """Hide patches of a batch afresh; return its loss, and that of each image."""
        weight = weight.to(self.torch_device, non_blocking=True)
        x = self.prepare(images)
        generator: Any = self.run.get("generator")
        with torch.no_grad():
            if self.augment is not None:
                x = self.augment(x, generator)
            x = x.contiguous(memory_format=torch.channels_last)
        mask = self.module_.draw_mask(len(x), x.shape[-1], generator)
        with autocast(self.torch_device, self.precision):
            each = self.module_.loss(x, mask)
        return (each * weight).mean(), each
