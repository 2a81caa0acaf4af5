"""What the deep estimators cost: time over a plain loop, images a second, memory, imports.

    python -m benchmarks.throughput [--small] [--only layer training prediction memory imports]

Needs no data: images are synthetic. Ratios are taken within one run, of the faster of some
repeats of each side, which are run in turn because other work may share the machine.
"""

import argparse
import os
import subprocess
import sys
import tempfile
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd

from benchmarks._results import write_section
from hemaest._tables import format_table

REPEATS = 5


def best_of(sides: dict[str, Callable[[], Any]], repeats: int, cpu: bool) -> dict[str, float]:
    """Return the least time of each side, the sides run in turn."""
    clock = time.process_time if cpu else time.perf_counter
    times: dict[str, list[float]] = {name: [] for name in sides}
    for _ in range(repeats):
        for name, run in sides.items():
            start = clock()
            run()
            times[name].append(clock() - start)
    return {name: min(found) for name, found in times.items()}


def plain_fit(X: Any, y: Any, backbone: str, epochs: int, batch: int, device: Any) -> None:
    """Train the same net on the same data in the same way, as one would write it by hand."""
    import torch
    from timm.utils import ModelEmaV3

    from hemaest.deep.augmentation import STANDARD, augment_batch
    from hemaest.deep.optimization import parameter_groups, warmup_cosine
    from hemaest.nets import build_net
    from hemaest.nets.devices import autocast, resolve_precision

    torch.manual_seed(0)
    dtype = resolve_precision("auto", device, train_at=X.shape[1])
    net = build_net(backbone, int(y.max()) + 1, image_size=X.shape[1])[0].to(device)
    net.to(memory_format=torch.channels_last)
    groups = parameter_groups(net.backbone, 0.05, None)
    optimizer = torch.optim.AdamW(groups, lr=1e-3, fused=True)
    average = ModelEmaV3(net, decay=0.99, use_warmup=True)
    generator = torch.Generator().manual_seed(0)
    target = torch.from_numpy(y)
    rng = np.random.default_rng(0)
    steps, total = 0, epochs * (len(X) // batch)
    net.train()
    for _ in range(epochs):
        order = rng.permutation(len(X))
        for start in range(0, len(X) - batch + 1, batch):
            rows = order[start : start + batch]
            for group in optimizer.param_groups:
                group["lr"] = 1e-3 * warmup_cosine(steps, total)
            images = torch.from_numpy(X[rows])
            if device.type == "cuda":
                images = images.pin_memory()
            x = images.to(device, non_blocking=True).permute(0, 3, 1, 2).float() / 255
            with torch.no_grad():
                x = augment_batch(x, STANDARD, generator)
                x = x.contiguous(memory_format=torch.channels_last)
            with autocast(device, dtype):
                logits = net(x)
            loss = torch.nn.functional.cross_entropy(
                logits.float(), target[rows].to(device), label_smoothing=0.1
            )
            optimizer.zero_grad(set_to_none=True)
            loss.backward()
            torch.nn.utils.clip_grad_norm_(net.parameters(), 1.0)
            optimizer.step()
            steps += 1
            average.update(net, steps)
    if device.type == "cuda":
        torch.cuda.synchronize()


def estimator_layer(small: bool, gpu: bool) -> dict[str, Any]:
    """Compare ``fit`` with the plain loop."""
    import torch

    from hemaest.deep import ImageClassifier

    backbone, size, n, batch = ("resnet50", 224, 4096, 128) if gpu else ("cellnet", 96, 512, 32)
    n, epochs = (n // 2 if small else n), 8
    device = torch.device("cuda" if gpu else "cpu")
    rng = np.random.default_rng(0)
    X = rng.integers(0, 255, (n, size, size, 3), dtype=np.uint8)
    y = np.arange(n) % 8
    model = ImageClassifier(
        backbone,
        image_size=size,
        max_epochs=epochs,
        batch_size=batch,
        random_state=0,
        verbose=False,
    )
    sides = {
        "fit": lambda: model.fit(X, y),
        "plain": lambda: plain_fit(X, y, backbone, epochs, batch, device),
    }
    for run in sides.values() if gpu else ():
        run()
    # on a shared CPU the clock of the process is the steadier one
    found = best_of(sides, 3 if small else REPEATS, cpu=not gpu)
    return {
        "what": f"fit over a plain loop, {backbone} at {size} px, {n} images",
        "ratio": found["fit"] / found["plain"],
        "bar": "<= 1.10" if gpu else "<= 1.05",
        "images/s": epochs * n / found["fit"],
    }


def training_throughput(backbone: str) -> dict[str, Any]:
    """Compare training from memory on a GPU with steps on one batch that stays on it."""
    import torch

    from hemaest.deep import ImageClassifier
    from hemaest.nets import build_net

    n, batch, size = 8192, 256, 224
    device = torch.device("cuda")
    net = build_net(backbone, 8, image_size=size)[0].to(device)
    net.to(memory_format=torch.channels_last).train()
    optimizer = torch.optim.AdamW(net.parameters(), fused=True)
    x = torch.rand(batch, 3, size, size, device=device).contiguous(
        memory_format=torch.channels_last
    )
    target = torch.zeros(batch, dtype=torch.long, device=device)

    def constant() -> None:
        for _ in range(n // batch):
            with torch.autocast("cuda", dtype=torch.bfloat16):
                loss = torch.nn.functional.cross_entropy(net(x), target)
            optimizer.zero_grad(set_to_none=True)
            loss.backward()
            optimizer.step()
        torch.cuda.synchronize()

    X = np.random.default_rng(0).integers(0, 255, (n, size, size, 3), dtype=np.uint8)
    model = ImageClassifier(
        backbone, image_size=size, max_epochs=4, batch_size=batch, precision="bfloat16"
    )
    constant()
    times = best_of({"constant": constant}, 3, cpu=False)
    model.fit(X, np.arange(n) % 8)
    best = model.history_["images_per_second"].max()
    return {
        "what": f"training, {backbone} at {size} px, bf16, of a constant batch's speed",
        "ratio": best / (n / times["constant"]),
        "bar": ">= .90",
        "images/s": best,
    }


def write_files(folder: Path, n: int, side: int = 360) -> list[Path]:
    """Write JPEG files of synthetic cells."""
    from PIL import Image

    from hemaest.datasets import make_cells

    cells = make_cells(16, image_size=side, random_state=0).images
    paths = [folder / f"{i:05d}.jpg" for i in range(n)]
    for i, path in enumerate(paths):
        Image.fromarray(np.roll(cells[i % 16], i, axis=1)).save(path, quality=92)
    return paths


def prediction_throughput(small: bool, gpu: bool) -> list[dict[str, Any]]:
    """Compare prediction from files with the bare net and with reading the files."""
    import torch

    from hemaest.deep import ImageClassifier
    from hemaest.deep.batches import LetterboxedImages, ordered, prefetch
    from hemaest.images import ImageRef, to_object_array
    from hemaest.nets.devices import autocast

    rows = []
    cases = [("resnet50", 224)] if gpu else [("cellnet", 96), ("resnet50", 224)]
    n = 4096 if gpu else (128 if small else 384)
    with tempfile.TemporaryDirectory() as folder:
        X = to_object_array([ImageRef(p) for p in write_files(Path(folder), n)])
        for backbone, size in cases:
            model = ImageClassifier(
                backbone, image_size=size, max_epochs=0, batch_size=128 if gpu else 16
            ).fit(X[:4], ["a", "b", "a", "b"])
            net = model.net_
            batch = 2 * net.batch_size
            x = torch.rand(batch, 3, size, size, device=net.torch_device)
            x = x.contiguous(memory_format=torch.channels_last)

            def bare(net: Any = net, x: Any = x, batch: int = batch) -> None:
                with torch.inference_mode(), autocast(net.torch_device, net.predict_precision):
                    for _ in range(n // batch):
                        net.module_(x)
                if gpu:
                    torch.cuda.synchronize()

            def decode(size: int = size, batch: int = batch) -> None:
                for _ in prefetch(LetterboxedImages(X, size), ordered(n, batch)):
                    pass

            def predict(model: Any = model) -> None:
                model.predict_proba(X)

            sides = {"predict": predict, "bare net": bare, "reading": decode}
            if gpu:
                bare()
                limit = best_of(sides, 3, cpu=False)
                lowest = max(("bare net", "reading"), key=limit.get)
                best_possible = limit[lowest]
            else:
                # both take the same cores, so their work adds up
                limit = best_of(sides, 3, cpu=True)
                lowest = "bare net and reading on the same cores"
                best_possible = limit["bare net"] + limit["reading"]
            rows.append(
                {
                    "what": f"prediction from files, {backbone} at {size} px, of the limit",
                    "ratio": best_possible / limit["predict"],
                    "bar": ">= .85",
                    "images/s": n / limit["predict"],
                    "limit": lowest,
                }
            )
    return rows


MEMORY = """
import sys
import numpy as np
from hemaest.deep import ImageClassifier
from hemaest.images import ImageRef, to_object_array
folder, n, size, train = sys.argv[1], int(sys.argv[2]), int(sys.argv[3]), sys.argv[4] == "train"
X = to_object_array([ImageRef(f"{folder}/{i % 500:05d}.jpg") for i in range(n)])
model = ImageClassifier(
    "cellnet", backbone_options={"channels": (8, 8, 8, 8), "depths": (1, 1, 1, 1)}, augment=None,
    image_size=size, max_epochs=1, batch_size=64, verbose=False,
)
rows = np.arange(n if train else 64)
model.fit(X[rows], rows % 2)
if not train:
    model.predict(X)
# getrusage would report the most of this process and of the one that started it
status = open("/proc/self/status").read()
print(int(status.split("VmHWM:")[1].split()[0]) / 1024)
"""


def memory(small: bool) -> list[dict[str, Any]]:
    """Compare the most memory of a process that handles many files and one that handles few."""
    few, many, size = (500, 5_000, 32) if small else (5_000, 50_000, 32)
    rows = []
    with tempfile.TemporaryDirectory() as folder:
        write_files(Path(folder), 500, side=64)
        for job in ("train", "predict"):
            most = [
                float(
                    subprocess.run(
                        [sys.executable, "-c", MEMORY, folder, str(n), str(size), job],
                        check=True,
                        capture_output=True,
                        text=True,
                    ).stdout
                )
                for n in (few, many)
            ]
            rows.append(
                {
                    "what": f"memory to {job}, {many:,} files over {few:,}",
                    "ratio": most[1] / most[0],
                    "bar": "<= 1.10",
                    "MB": most[1],
                }
            )
    return rows


def imports() -> dict[str, Any]:
    """Say whether importing the estimators loads torch."""
    code = (
        "import sys, time; start = time.perf_counter(); import hemaest.deep;"
        "from hemaest.deep import ImageClassifier;"
        "print('torch' in sys.modules, time.perf_counter() - start)"
    )
    out = subprocess.run([sys.executable, "-c", code], check=True, capture_output=True, text=True)
    loaded, seconds = out.stdout.split()
    return {
        "what": "torch loaded by `from hemaest.deep import ImageClassifier`: "
        + ("yes" if loaded == "True" else "no"),
        "bar": "no",
        "seconds": float(seconds),
    }


def training(small: bool, gpu: bool) -> list[dict[str, Any]]:
    """Measure training on a GPU, or say that there is none."""
    if gpu:
        return [training_throughput(b) for b in ("resnet50", "vit_base_patch16_224")]
    what = "training, resnet50 and vit_base at 224 px, bf16, GPU: not measured"
    return [{"what": what, "bar": ">= .90"}]


PARTS: dict[str, Callable[[bool, bool], list[dict[str, Any]]]] = {
    "layer": lambda small, gpu: [estimator_layer(small, gpu)],
    "training": training,
    "prediction": prediction_throughput,
    "memory": lambda small, gpu: memory(small),
    "imports": lambda small, gpu: [imports()],
}


def main() -> None:
    import torch

    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--small", action="store_true", help="fewer images")
    parser.add_argument("--no-write", action="store_true", help="print only")
    parser.add_argument("--only", nargs="+", choices=list(PARTS), default=list(PARTS))
    given = parser.parse_args()
    gpu = torch.cuda.is_available()
    for part in given.only:
        table = pd.DataFrame(PARTS[part](given.small, gpu))
        columns = ["what", "ratio", "bar", "images/s", "MB", "seconds", "limit"]
        table = table[[c for c in columns if c in table]]
        busy = os.getloadavg()[0]
        text = f"{torch.get_num_threads()} threads; load average {busy:.0f}."
        text += f"\n\n{format_table(table)}"
        if given.no_write:
            print(text)
            continue
        title = f"Cost of the deep estimators: {part}" + (" (small)" if given.small else "")
        command = f"python -m benchmarks.throughput{' --small' * given.small} --only {part}"
        write_section(title, text, command=command)


if __name__ == "__main__":
    main()
