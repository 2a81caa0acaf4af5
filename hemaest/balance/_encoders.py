"""What turns images into points between which distances mean likeness."""

import os
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

import numpy as np
from numpy.typing import NDArray
from sklearn.cluster import KMeans
from sklearn.frozen import FrozenEstimator
from sklearn.utils.validation import check_is_fitted

from hemaest import deep
from hemaest._geometry import fit_inside
from hemaest.balance._judges import embed
from hemaest.deep import DeepEmbedding, FCMAEPretrainer, ImageClassifier
from hemaest.images import as_array

if TYPE_CHECKING:
    from torch import Tensor

ENCODERS = ("auto", "inception", "fitted")
# what has a network whose maps can be looked at
OURS = (ImageClassifier, DeepEmbedding, FCMAEPretrainer)
INCEPTION_FILE = "weights-inception-2015-12-05-6726825d.pth"
# kinds of cells that are looked for where no labels are given
N_CLUSTERS = 8


@dataclass
class FittedEncoder:
    """A fitted network of ours: its embedding, and its maps for fine likeness."""

    model: Any
    name: str

    def features(self, images: NDArray[Any]) -> NDArray[np.float64]:
        """Return one row for each image, of length one for each feature on the average."""
        points = self.invariant(images)
        return points * np.sqrt(points.shape[1])

    def invariant(self, images: NDArray[Any]) -> NDArray[np.float64]:
        """Return unit vectors that do not depend on how a cell is turned."""
        return embed(self.model, images).astype(np.float64)

    def maps(self, images: NDArray[Any]) -> list[NDArray[np.float32]]:
        """Return the feature maps of all stages, each place a unit vector."""
        import torch

        net = net_of(self.model).eval()
        squares = deep.batches.LetterboxedImages(images, self.model.image_size).take(
            np.arange(len(images))
        )
        with torch.inference_mode():
            x = deep.batches.to_floats(torch.from_numpy(squares), net.mean.device)
            stages = stage_maps(net.backbone, net.normalize(x))
            units = [torch.nn.functional.normalize(stage.float(), dim=1) for stage in stages]
        return [unit.cpu().numpy() for unit in units]


def net_of(model: Any) -> Any:
    """Return the normalized network inside a fitted estimator of ours."""
    if isinstance(model, DeepEmbedding):
        return model.module_
    module = model.net_.module_
    return module.encoder if isinstance(model, FCMAEPretrainer) else module


def stage_maps(net: Any, x: "Tensor") -> "list[Tensor]":
    """Return the map after each stage of a convolutional network, or each block of another."""
    if hasattr(net, "forward_intermediates"):
        return net.forward_intermediates(x, intermediates_only=True)
    net = getattr(net, "encoder", net)  # of a WPAT
    maps = [net.stem(x)]
    for stage in net.stages:
        maps.append(stage(maps[-1]))
    return maps[1:]


@dataclass
class Inception:
    """The Inception v3 of the published FID, where its weights are at hand."""

    name: str = "Inception v3 (the published FID and KID)"

    def features(self, images: NDArray[Any]) -> NDArray[np.float64]:
        """Return one row of 2,048 for each image."""
        import torch
        from torchmetrics.image.fid import NoTrainInceptionV3

        net = NoTrainInceptionV3(name="inception-v3-compat", features_list=["2048"]).eval()
        found = []
        with torch.inference_mode():
            for rows in deep.batches.ordered(len(images), 32):
                squares = [fit_inside(as_array(images[i])[..., :3], 299, 299) for i in rows]
                batch = torch.from_numpy(np.stack(squares)).permute(0, 3, 1, 2)
                found.append(net(batch).double().numpy())
        return np.concatenate(found)

    def invariant(self, images: NDArray[Any]) -> NDArray[np.float64]:
        """Return unit vectors."""
        points = self.features(images)
        return points / np.linalg.norm(points, axis=1, keepdims=True)

    def maps(self, images: NDArray[Any]) -> None:
        """Return nothing: the maps of this network are not those of any published likeness."""
        return None


def has_inception() -> bool:
    """Return whether the published weights are on this machine; nothing is fetched."""
    import torch

    return os.path.exists(os.path.join(torch.hub.get_dir(), "checkpoints", INCEPTION_FILE))


def make_encoder(
    encoder: Any,
    images: NDArray[Any],
    labels: NDArray[Any],
    *,
    image_size: int,
    device: str,
    random_state: Any,
) -> FittedEncoder | Inception:
    """Return the requested encoder, fitted on real images where it is one of ours.

    Parameters
    ----------
    encoder : {"auto", "inception", "fitted"} or fitted estimator
        ``"auto"`` takes Inception where its weights are at hand.
    images : array
        Checked real images to fit on.
    labels : array
        Where they are all one, clusters of small images take their place.
    image_size : int
        Of an encoder of ours.
    device : str
        Of an encoder of ours.
    random_state : int, RandomState or None
        Of an encoder of ours.
    """
    if not isinstance(encoder, str):
        model = check_encoder(encoder)
        return FittedEncoder(model, f"the given {type(model).__name__}")
    if encoder == "inception" or (encoder == "auto" and has_inception()):
        return Inception()
    what = f"{len(images)} real images and their labels"
    if len(np.unique(labels)) < 2:
        labels = clusters(images, random_state)
        what = f"{len(images)} real images and {N_CLUSTERS} clusters of them"
    model = ImageClassifier(
        "cellnet",
        image_size=image_size,
        max_epochs=20,
        batch_size=16,
        lr=2e-3,
        resampler="balanced",
        device=device,
        precision="float32",
        random_state=random_state,
        verbose=False,
    )
    name = f"a small network of hemaest at {image_size} px, fitted on {what}"
    return FittedEncoder(model.fit(images, labels), name)


def check_encoder(encoder: Any) -> Any:
    """Return a given encoder, out of its freezer; raise where it is no fitted network of ours."""
    model = encoder.estimator if isinstance(encoder, FrozenEstimator) else encoder
    if not isinstance(model, OURS):
        allowed = ", ".join(kind.__name__ for kind in OURS)
        raise TypeError(
            f"encoder is a {type(model).__name__}; it must be one of {', '.join(ENCODERS)}, or a "
            f"fitted one of {allowed} or of what is made of these."
        )
    check_is_fitted(model)
    return model


def clusters(images: NDArray[Any], random_state: Any) -> NDArray[np.intp]:
    """Return which of some clusters of small images each image belongs to."""
    small = np.stack([fit_inside(as_array(image)[..., :3], 8, 8) for image in images])
    rows = small.reshape(len(small), -1) / 255.0
    k = min(N_CLUSTERS, len(np.unique(rows, axis=0)))
    return KMeans(k, n_init=3, random_state=random_state).fit_predict(rows)
