"""The same GAN trained by the estimator's loop and by a plain one, for their speed."""

import time
from typing import Any

import numpy as np
import torch

from hemaest.balance import ACDBGAN
from hemaest.balance._gan_training import make_run
from hemaest.nets.devices import autocast
from hemaest.nets.gan import (
    Discriminator,
    Generator,
    augment_for_discriminator,
    gradient_penalty,
    relativistic_losses,
)


def estimator_loop(X: np.ndarray, y: np.ndarray, options: dict[str, Any]) -> float:
    """Return the images a second that the estimator notes."""
    gan = ACDBGAN(**options, adaptive=False, realism_filter=False, random_state=0)
    return gan.fit(X, y)._history[-1]["images_per_second"]


def plain_loop(X: np.ndarray, y: np.ndarray, options: dict[str, Any]) -> float:
    """Return the images a second of a loop that does nothing but train."""
    gan = ACDBGAN(**options)
    run = make_run(gan, len(np.unique(y)), 0)
    device, precision = run.device, run.precision
    layout: Any = {"memory_format": torch.channels_last}
    make = Generator(8, gan.image_size, width=gan.width).to(device, **layout)
    judge = Discriminator(8, gan.image_size, width=gan.width).to(device, **layout)
    adam = [torch.optim.Adam(n.parameters(), gan.lr, betas=(0.0, 0.99)) for n in (make, judge)]
    data = torch.from_numpy(X).to(device).permute(0, 3, 1, 2)
    label = torch.from_numpy(y).to(device)
    random, n = torch.Generator(), gan.batch_size
    start = time.perf_counter()
    for step in range(gan.max_steps):
        rows = torch.randint(len(data), (n,), device=device)
        real, of = data[rows].float().div(127.5).sub(1), label[rows]
        with torch.no_grad(), autocast(device, precision):
            fake = make(torch.randn(n, gan.latent_size, device=device), of).float()
        seen = (
            augment_for_discriminator(torch.cat([real, fake]), random)
            .contiguous(**layout)
            .requires_grad_()
        )
        with autocast(device, precision):
            score = judge(seen, of.repeat(2)).float()
        loss, _ = relativistic_losses(*score.chunk(2))
        if step % gan.penalty_every == 0:
            loss = loss + gan.penalty_every * run.settings.penalty * gradient_penalty(score, seen)
        adam[1].zero_grad()
        loss.backward()
        adam[1].step()
        judge.requires_grad_(False)
        with autocast(device, precision):
            fake = make(torch.randn(n, gan.latent_size, device=device), of).float()
        seen = augment_for_discriminator(torch.cat([real, fake]), random).contiguous(**layout)
        with autocast(device, precision):
            score = judge(seen, of.repeat(2)).float()
        _, loss = relativistic_losses(*score.chunk(2))
        adam[0].zero_grad()
        loss.backward()
        adam[0].step()
        judge.requires_grad_(True)
    if device.type == "cuda":
        torch.cuda.synchronize()
    return gan.max_steps * n / (time.perf_counter() - start)
