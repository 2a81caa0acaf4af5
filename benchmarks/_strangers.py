"""Images that a detector of novelty must find, and the detectors of pytorch-ood to compare with."""

import cv2
import numpy as np
from skimage import data as skimage_data
from sklearn.datasets import load_sample_images

from hemaest.datasets import make_cells
from hemaest.pretrained import load_pretrained


def strangers(images, rng):
    """Return what a detector of novelty must find, by name."""
    size = images.shape[1]
    wright = make_cells(len(images), image_size=size, n_patients=20, stain="wright", random_state=7)
    small = [cv2.resize(image[8:-8, 8:-8], (size, size)) for image in images]
    gained = np.clip(images * [0.85, 0.98, 1.1], 0, 255)
    section = skimage_data.immunohistochemistry()
    high = section.shape[0] - 128
    cut = [section[y : y + 128, x : x + 128] for x, y in rng.integers(0, high, (len(images), 2))]
    tissue = []
    for _ in images:  # closely packed nuclei in pink, as of a section
        picture = np.full((size, size, 3), (226, 170, 200), np.uint8)
        for x, y in rng.integers(0, size, (14, 2)):
            axes = (int(rng.integers(3, 7)), int(rng.integers(3, 6)))
            cv2.ellipse(picture, (int(x), int(y)), axes, 0, 0, 360, (110, 70, 150), -1)
        tissue.append(cv2.GaussianBlur(picture, (0, 0), 1.0))
    text = np.repeat(skimage_data.page()[..., None], 3, axis=2)
    views = [skimage_data.chelsea(), skimage_data.coffee(), skimage_data.astronaut(),
             skimage_data.retina(), text, *load_sample_images().images]  # fmt: skip
    photos = [cv2.resize(view, (size, size), interpolation=cv2.INTER_AREA) for view in views]
    scenes = [np.roll(photos[i % len(photos)], i * 3, axis=1) for i in range(len(images))]
    return {
        "other stain (Wright)": wright.images,
        "other scanner (color and gain)": gained.astype(np.uint8),
        "other magnification (1.33)": np.array(small),
        "blur (1 pixel)": np.array([cv2.GaussianBlur(image, (0, 0), 1.0) for image in images]),
        "tissue (a real section)": np.array(
            [cv2.resize(tile, (size, size), interpolation=cv2.INTER_AREA) for tile in cut]
        ),
        "tissue (drawn)": np.array(tissue),
        "photographs": np.array(scenes),
    }


def rivals(cells, old):
    """Return the detectors of pytorch-ood by name: images to scores, higher is stranger.

    They look at embedding and logits of the shipped cell classifier, and are fitted on the cells
    that NoveltyDetector is fitted on, with their types.
    """
    import torch
    from pytorch_ood import detector as peers

    net = load_pretrained("blood-cells")
    head = net.module_.classify
    weight, bias = head.weight.detach(), head.bias.detach()
    codes = torch.from_numpy(np.unique(cells.target[old], return_inverse=True)[1])

    def seen(images):
        z = torch.from_numpy(np.asarray(net.look(images)[0].embedding, dtype=np.float32))
        return z, z @ weight.T + bias

    z, _ = seen(cells.images[old])
    fitted = {
        "Mahalanobis": peers.Mahalanobis(None),
        "RMD": peers.RMD(None),
        "KNN": peers.KNN(None),
        "ViM": peers.ViM(None, z.shape[1] // 2, weight, bias),
    }
    by_vector = {name: one.fit_features(z, codes) for name, one in fitted.items()}
    by_logit = {"MaxSoftmax": peers.MaxSoftmax.score, "Energy": peers.EnergyBased.score}

    def scores(images):
        vectors, logits = seen(images)
        found = {name: one.predict_features(vectors) for name, one in by_vector.items()}
        found |= {name: score(logits) for name, score in by_logit.items()}
        return {name: np.asarray(value.detach()) for name, value in found.items()}

    return scores
