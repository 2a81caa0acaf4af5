"""What the pretraining benchmark trains: its sizes, encoders kept as files, the nets to compare."""

import time
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import Any

import numpy as np

from benchmarks._results import data_folder
from hemaest.datasets import make_cells
from hemaest.deep import DeepEmbedding, FCMAEPretrainer, ImageClassifier, WPATClassifier
from hemaest.deep._initial_weights import read_architecture
from hemaest.images import ImageRef, to_object_array
from hemaest.nets.convnets import fitting_stride
from hemaest.preprocessing import AdaptiveLocalHistogramEnhancer, CropToCell, Resize
from hemaest.recipes._deep import cropper
from hemaest.segmentation import CellSegmenter

# of the images of pbc_unlabelled; those of the other sets are brought to it
UNLABELLED_SIDE = 160


@dataclass
class Size:
    """How much is done."""

    image: int
    encoder: dict[str, Any]
    pretraining: dict[str, Any]
    few: dict[str, Any]
    ablation: dict[str, Any]
    all: dict[str, Any]
    attention: dict[str, Any] = field(default_factory=dict)
    seeds: tuple[int, ...] = (0, 1, 2)
    labels: int | None = None
    transfer_epochs: int = 40
    unlabeled: int | None = None
    name: str = ""
    folder: Path = field(default_factory=Path)


SMALL = Size(
    image=48,
    encoder={"depths": (1, 1, 4, 1), "dims": (32, 64, 128, 192)},
    pretraining={"max_epochs": 6, "lr": 1.5e-3, "batch_size": 32, "decoder_dim": 128},
    few={"max_epochs": 20, "batch_size": 16},
    ablation={"max_epochs": 8, "batch_size": 16},
    all={"max_epochs": 3, "batch_size": 32},
    # as wide as usual it would be half of every step of so small a net
    attention={"dim": 64, "heads": 2},
    labels=25,
    transfer_epochs=8,
    unlabeled=3000,
    name=" (small)",
)
HOUR = replace(
    SMALL,
    image=64,
    few={"max_epochs": 30, "batch_size": 16},
    pretraining={**SMALL.pretraining, "max_epochs": 60},
    all={"max_epochs": 30, "batch_size": 32},
    ablation={"max_epochs": 40, "batch_size": 16},
    attention={},
    unlabeled=None,
    name=" (an hour of CPU)",
)
FULL = Size(
    image=128,
    encoder={},
    pretraining={"max_epochs": 400, "lr": 1.5e-3, "batch_size": 256},
    few={"max_epochs": 100, "batch_size": 16},
    ablation={"max_epochs": 60, "batch_size": 32},
    all={"max_epochs": 100, "batch_size": 32},
)


def pretrainer(size: Size, **changes: Any) -> FCMAEPretrainer:
    """Return the unfitted pretrainer of a size."""
    params = {
        "image_size": size.image,
        "backbone_options": size.encoder or None,
        "random_state": 0,
        "verbose": False,
        **size.pretraining,
    }
    return FCMAEPretrainer(**(params | changes))


def encoder(size: Size, kind: str) -> Path:
    """Return the file of an encoder, pretrained now if it is not there.

    Parameters
    ----------
    size : Size
    kind : {"plain", "enhanced", "synthetic", "untrained"}
        On the cells of ``pbc_unlabelled`` as they are or after ALHE, on synthetic cells, or not
        at all.
    """
    path = size.folder / f"{kind}-{size.image}.safetensors"
    if path.exists():
        return path
    start = time.process_time()
    if kind == "untrained":
        model = pretrainer(size, max_epochs=0).fit(np.zeros((2, size.image, size.image, 3), "u1"))
    else:
        model = pretrainer(size).fit(pool(size, kind))
    model.save(path)
    minutes = (time.process_time() - start) / 60
    losses = [round(row["train_loss"], 3) for row in model.net_.history]
    print(f"{kind} encoder: {minutes:.1f} core-minutes, losses {losses[:: len(losses) // 5 or 1]}")
    return path


def pool(size: Size, kind: str) -> Any:
    """Return the unlabeled cells, cut out to one scale."""
    if kind == "synthetic":
        made = make_cells(size.unlabeled or 6000, image_size=96, n_labs=8, random_state=0)
        return cropper().fit_transform(np.concatenate([made.images, made.masks[..., None]], -1))
    cells = unlabeled_cropper(size).transform(unlabeled(size))
    return enhanced(cells) if kind == "enhanced" else cells


def unlabeled(size: Size) -> Any:
    """Return ``pbc_unlabelled`` with the maps of its cells."""
    files = sorted((data_folder() / "pbc_unlabelled").glob("*.jpg"))
    if size.unlabeled is not None:
        files = np.random.default_rng(0).permutation(files)[: size.unlabeled]
    return outlined(size, to_object_array([ImageRef(path) for path in files]), "unlabeled")


def unlabeled_cropper(size: Size) -> CropToCell:
    """Return the cropper of ``pbc_unlabelled``, which says for ``pbc`` too how large cells are."""
    return cropper().fit(unlabeled(size))


def outlined(size: Size, images: Any, name: str) -> Any:
    """Return images with the maps of their cells, kept beside the encoders."""
    path = size.folder / f"outlined-{name}.npy"
    if not path.exists():
        small = Resize(UNLABELLED_SIDE).fit_transform(images)
        np.save(path, np.stack(list(CellSegmenter(n_jobs=2).fit_transform(small))))
    return np.load(path)


def enhanced(cells: Any) -> Any:
    """Return cells after ALHE."""
    return AdaptiveLocalHistogramEnhancer(n_jobs=2).fit_transform(cells)


def frozen(size: Size, kind: str) -> DeepEmbedding:
    """Return a frozen encoder."""
    start = encoder(size, kind)
    return DeepEmbedding(
        read_architecture(start)["backbone"], pretrained=start, image_size=size.image
    )


def embedded(size: Size, kind: str, X: Any) -> np.ndarray:
    """Return the embeddings of a frozen encoder."""
    return frozen(size, kind).fit_transform(X)


def from_scratch(size: Size) -> dict[str, Any]:
    """Return how an encoder is built as pretraining builds it."""
    return {**size.encoder, "stride": fitting_stride(size.image)}


def wpat(size: Size, start: Any, seed: int, how: dict[str, Any]) -> WPATClassifier:
    """Return the transformer, from a file or from scratch."""
    options = {} if start else {"convnet_options": from_scratch(size)}
    return WPATClassifier(
        pretrained=start or False,
        image_size=size.image,
        random_state=seed,
        verbose=False,
        backbone_options={**size.attention, **options},
        **how,
    )


def convnext(size: Size, start: Any, seed: int, how: dict[str, Any]) -> ImageClassifier:
    """Return the plain encoder with a last layer."""
    return ImageClassifier(
        "convnextv2_atto",
        pretrained=start or False,
        image_size=size.image,
        random_state=seed,
        verbose=False,
        backbone_options=None if start else from_scratch(size),
        drop_path=0.1,
        warmup=0.1,
        layer_decay="auto",
        freeze_epochs=max(1, how["max_epochs"] // 10) if start else 0,
        **how,
    )


def plain_loop(model: FCMAEPretrainer, X: np.ndarray, device: Any) -> None:
    """Pretrain as one would write it by hand."""
    import torch

    from hemaest.deep.augmentation import STANDARD, augment_batch
    from hemaest.deep.optimization import parameter_groups, warmup_cosine
    from hemaest.nets.devices import autocast, resolve_precision
    from hemaest.nets.fcmae import build_fcmae

    torch.manual_seed(0)
    dtype = resolve_precision("auto", device, train_at=model.image_size)
    net = build_fcmae(
        model.backbone,
        image_size=model.image_size,
        decoder_dim=model.decoder_dim,
        **(model.backbone_options or {}),
    ).to(device)
    net.to(memory_format=torch.channels_last).train()
    groups = parameter_groups(net, 0.05, None)
    optimizer = torch.optim.AdamW(groups, lr=1e-3, fused=True)
    generator, rng = torch.Generator().manual_seed(0), np.random.default_rng(0)
    batch, steps = model.batch_size, 0
    total = model.max_epochs * (len(X) // batch)
    for _ in range(model.max_epochs):
        order = rng.permutation(len(X))
        for start in range(0, len(X) - batch + 1, batch):
            for group in optimizer.param_groups:
                group["lr"] = 1e-3 * warmup_cosine(steps, total)
            x = torch.from_numpy(X[order[start : start + batch]]).to(device)
            x = x.permute(0, 3, 1, 2).float() / 255
            with torch.no_grad():
                x = augment_batch(x, STANDARD, generator)
                x = x.contiguous(memory_format=torch.channels_last)
            mask = net.draw_mask(batch, x.shape[-1], generator)
            with autocast(device, dtype):
                loss = net.loss(x, mask).mean()
            optimizer.zero_grad(set_to_none=True)
            loss.backward()
            torch.nn.utils.clip_grad_norm_(net.parameters(), 1.0)
            optimizer.step()
            steps += 1
    if device.type == "cuda":
        torch.cuda.synchronize()
