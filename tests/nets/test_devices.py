"""Precision: what "auto" chooses, and that the gradients it gives are those of float32."""

import os

import pytest
import torch

from hemaest.nets import build_net
from hemaest.nets.devices import autocast, multiplies_bfloat16, resolve_precision, threads_for

CPU = torch.device("cpu")


def test_a_cpu_predicts_and_learns_small_maps_in_float32():
    assert resolve_precision("auto", CPU) == torch.float32
    assert resolve_precision("auto", CPU, train_at=32) == torch.float32
    large = torch.bfloat16 if multiplies_bfloat16() else torch.float32
    assert resolve_precision("auto", CPU, train_at=64) == large
    assert resolve_precision("bfloat16", CPU, train_at=32) == torch.bfloat16


def dirty_memory():
    """Leave NaN in the memory that is handed out next."""
    for n in (64, 256, 1024, 4096, 9216, 36864, 147456):
        for kind in (torch.float32, torch.bfloat16):
            torch.full((n,), float("nan"), dtype=kind)


@pytest.mark.parametrize("name", ["cellnet", "resnet24", "convnextv2_atto"])
def test_gradients_at_the_smallest_size_are_those_of_float32(name):
    net, _ = build_net(name, 3, image_size=64)
    net.to(memory_format=torch.channels_last).train()
    x = torch.rand(8, 3, 64, 64).contiguous(memory_format=torch.channels_last)
    y = torch.arange(8) % 3
    found = {}
    for precision in ("float32", "bfloat16"):
        net.zero_grad()
        with autocast(CPU, resolve_precision(precision, CPU)):
            out = net(x)
        dirty_memory()
        torch.nn.functional.cross_entropy(out.float(), y).backward()
        found[precision] = torch.cat([p.grad.flatten() for p in net.parameters()])
    assert torch.isfinite(found["bfloat16"]).all()
    cosine = torch.nn.functional.cosine_similarity(*found.values(), dim=0)
    assert cosine > 0.9


def test_a_small_batch_gets_few_threads_and_gives_them_back():
    before = torch.get_num_threads()
    with threads_for(16 * 64**2):
        assert torch.get_num_threads() == 1
    with threads_for(10**12):
        assert 1 <= torch.get_num_threads() <= (os.cpu_count() or 1)
    assert torch.get_num_threads() == before
