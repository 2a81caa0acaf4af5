"""Real, synthetic and training images with their points, and the figures of one class."""

from typing import Any

import numpy as np
from numpy.typing import NDArray
from scipy.spatial.distance import cdist

from hemaest.balance._fidelity import (
    copied,
    frechet_distance,
    kernel_distance,
    pairs,
    perceptual_distance,
    structural_similarity,
    support,
)


class Sides:
    """Three sets of images in the space of one encoder.

    Parameters
    ----------
    encoder : FittedEncoder or Inception
    sets : list of 3 uint8 arrays
        Real, synthetic, and training.
    labels : list of 3 arrays
        Of those.
    genuine : bool array
        Which of the real images are none of the training images.
    seed : int
        Of pairs and subsets.
    """

    def __init__(
        self,
        encoder: Any,
        sets: list[Any],
        labels: list[Any],
        genuine: NDArray[np.bool_],
        seed: int,
    ) -> None:
        self.encoder, self.sets, self.labels, self.seed = encoder, sets, labels, seed
        self.genuine = genuine
        self.features = [encoder.features(images) for images in sets[:2]]
        self.points = [encoder.invariant(images) for images in sets]

    def rows(self, side: int, label: Any) -> NDArray[np.intp]:
        """Return the rows of one class of a set; all of them where it has none of that name."""
        labels = self.labels[side]
        if isinstance(label, str) and label == "all":
            return np.arange(len(labels))
        return np.flatnonzero(labels == label)

    def row(self, label: Any) -> dict[str, Any]:
        """Return the figures of one class."""
        real, synthetic = self.rows(0, label), self.rows(1, label)
        found: dict[str, Any] = {
            "class": label,
            "real": len(real),
            "synthetic": len(synthetic),
        }
        if min(len(real), len(synthetic)) < 4:
            return found
        one, other = self.features[0][real], self.features[1][synthetic]
        kid = kernel_distance(one, other, self.seed)
        found |= {"FID": frechet_distance(one, other)}
        found |= dict(zip(("KID", "KID low", "KID high"), kid, strict=True))
        found |= support(one, other)
        found |= self._variety((real, synthetic))
        found["memorized"] = self.memorized(label)
        return found

    def _variety(self, rows: tuple[NDArray[np.intp], NDArray[np.intp]]) -> dict[str, float]:
        found = {}
        for name, side in (("real", 0), ("synthetic", 1)):
            rng = np.random.default_rng([self.seed, side])
            images = self.sets[side][rows[side][:200]]
            chosen = pairs(len(images), rng)
            found[f"SSIM {name}"] = structural_similarity(images, chosen)
            found[f"distance {name}"] = perceptual_distance(self.encoder.maps(images), chosen)
        return found

    def memorized(self, label: Any) -> float:
        """Return the share of copies, each class against its own training images."""
        if isinstance(label, str) and label == "all" and len(np.unique(self.labels[1])) > 1:
            classes, counts = np.unique(self.labels[1], return_counts=True)
            shares = [self.memorized(c) for c in classes]
            known = ~np.isnan(shares)
            return float(np.average(np.array(shares)[known], weights=counts[known]))
        real, synthetic, training = (self.rows(side, label) for side in range(3))
        real = real[self.genuine[real]]
        if min(len(real), len(training)) < 2:
            return float("nan")
        flags = copied(self.points[0][real], self.points[1][synthetic], self.points[2][training])
        return float(flags.mean())

    def pictures(self, label: Any, n: int) -> tuple[NDArray[np.uint8], ...]:
        """Return some real and synthetic cells, and the training cell nearest to each of those."""
        real, synthetic = (
            rows[np.linspace(0, len(rows) - 1, min(n, len(rows))).astype(int)]
            for rows in (self.rows(0, label), self.rows(1, label))
        )
        among = self.rows(2, label)
        apart = cdist(self.points[1][synthetic], self.points[2][among])
        near = among[apart.argmin(axis=1)] if len(among) else among
        return self.sets[0][real], self.sets[1][synthetic], self.sets[2][near]
