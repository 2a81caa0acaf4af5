"""Real, synthetic and training images with their points, and the figures of one class."""

from typing import Any

import numpy as np
from numpy.typing import NDArray
from scipy.spatial.distance import cdist

from hemaest.balance._copies import Nearness, copy_limit, nearness
from hemaest.balance._fidelity import (
    frechet_distance,
    kernel_distance,
    pairs,
    perceptual_distance,
    structural_similarity,
    support,
)

# of a class, for the variety of pairs
MOST_IMAGES = 200
# no label can be this one
ALL = object()


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
        self.classes = sorted(set(labels[0].tolist()) | set(labels[1].tolist()))
        self.near = {label: self._nearness(label) for label in self.classes}
        self.limit, self.by_chance = copy_limit(self.near.values())

    @property
    def n_seen(self) -> int:
        """How many real images are training images too."""
        return sum(near.n_seen for near in self.near.values())

    def rows(self, side: int, label: Any) -> NDArray[np.intp]:
        """Return the rows of one class of a set; all of them for ``ALL``."""
        labels = self.labels[side]
        return np.arange(len(labels)) if label is ALL else np.flatnonzero(labels == label)

    def table(self) -> list[dict[str, Any]]:
        """Return the figures of each class, and of all together where there are several."""
        rows = [{"class": label} | self.row(label) for label in self.classes]
        if len(rows) == 1:
            return rows
        name = "all" if "all" not in self.classes else "all together"
        return [*rows, {"class": name} | self.row(ALL)]

    def row(self, label: Any) -> dict[str, Any]:
        """Return the figures of one class."""
        real, synthetic = self.rows(0, label), self.rows(1, label)
        found: dict[str, Any] = {
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
        found["memorized"] = self._memorized(label)
        found["memorized by chance"] = self.by_chance
        return found

    def _variety(self, rows: tuple[NDArray[np.intp], NDArray[np.intp]]) -> dict[str, float]:
        found = {}
        for name, side in (("real", 0), ("synthetic", 1)):
            rng = np.random.default_rng([self.seed, side])
            # labels may be sorted: the first rows may be those of one class
            images = self.sets[side][rng.permutation(rows[side])[:MOST_IMAGES]]
            chosen = pairs(len(images), rng)
            found[f"SSIM {name}"] = structural_similarity(images, chosen)
            found[f"distance {name}"] = perceptual_distance(self.encoder.maps(images), chosen)
        return found

    def _nearness(self, label: Any) -> Nearness:
        real, synthetic, training = (self.rows(side, label) for side in range(3))
        real = real[self.genuine[real]]
        return nearness(self.points[0][real], self.points[1][synthetic], self.points[2][training])

    def _memorized(self, label: Any) -> float:
        """Return the share of copies, each class against its own training images."""
        near = self.near.values() if label is ALL else [self.near[label]]
        flags = np.concatenate([n.copies(self.limit) for n in near])
        return float(flags.mean()) if len(flags) else float("nan")

    def pictures(self, label: Any, n: int) -> tuple[NDArray[np.uint8], ...]:
        """Return some real and synthetic cells, and the training cell nearest to each of those."""
        real, synthetic = (
            rows[np.linspace(0, len(rows) - 1, min(n, len(rows))).astype(int)]
            for rows in (self.rows(0, label), self.rows(1, label))
        )
        near = self.rows(2, label)
        if len(near):
            apart = cdist(self.points[1][synthetic], self.points[2][near])
            near = near[apart.argmin(axis=1)]
        return self.sets[0][real], self.sets[1][synthetic], self.sets[2][near]
