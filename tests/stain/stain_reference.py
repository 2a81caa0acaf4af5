"""The methods once more: plainly, in float64, with scikit-image's own colour conversions."""

import warnings

import numpy as np
from skimage.color import lab2rgb, rgb2lab

CAP = {"lab": 5.0, "density": 4.0}


def lab_measure(image):
    lab = rgb2lab(image).reshape(-1, 3)
    return lab.mean(axis=0), lab.std(axis=0)


def reinhard(image, target):
    mean, std = lab_measure(image)
    to_mean, to_std = lab_measure(target)
    gain = np.minimum(to_std.clip(0.5) / std.clip(0.5), CAP["lab"])
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")  # colours out of gamut
        return 255 * lab2rgb((rgb2lab(image) - mean) * gain + to_mean)


def density(image):
    return np.log(256 / (image.reshape(-1, 3) + 1.0))


def stained(image):
    od = density(image)
    return od[od.mean(axis=1) >= 0.15]


def macenko_measure(image):
    od = stained(image)
    _, vectors = np.linalg.eigh(np.cov(od.T, bias=True))
    plane = vectors[:, [2, 1]]
    plane = plane * np.sign(od.mean(axis=0) @ plane)
    along = od @ plane
    middle = np.arctan2(*(od.mean(axis=0) @ plane)[::-1])
    angle = (np.arctan2(along[:, 1], along[:, 0]) - middle + np.pi) % (2 * np.pi) - np.pi
    low, high = np.percentile(angle, [1, 99]) + middle
    stains = np.stack([plane @ [np.cos(a), np.sin(a)] for a in (low, high)])
    stains = stains * np.sign(stains.sum(axis=1, keepdims=True))
    if stains[0, 0] < stains[1, 0]:
        stains = stains[::-1]
    return stains, np.percentile(od @ np.linalg.pinv(stains), 99, axis=0)


def third(stains):
    normal = np.cross(*stains)
    return np.vstack([stains, normal / np.linalg.norm(normal)])


def macenko(image, target, residual="keep"):
    stains, strong = macenko_measure(image)
    to_stains, to_strong = macenko_measure(target)
    gain = np.minimum(to_strong.clip(0.02) / strong.clip(0.02), CAP["density"])
    # a linear system a pixel, as the textbooks write it
    amounts = np.linalg.solve(third(stains).T, density(image).T).T
    amounts *= [*gain, residual == "keep"]
    od = amounts @ third(to_stains)
    return np.clip(256 * np.exp(-od) - 1, 0, 255).reshape(image.shape)
