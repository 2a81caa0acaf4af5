"""The methods once more: plainly, in float64, with scikit-image's own color conversions."""

import numpy as np
from skimage.color import rgb2lab
from skimage.color.colorconv import xyz_from_rgb

CAP = {"lab": 5.0, "density": 4.0}


def lab_measure(image):
    lab = rgb2lab(image).reshape(-1, 3)
    return lab.mean(axis=0), lab.std(axis=0)


def reinhard(image, target):
    mean, std = lab_measure(image)
    to_mean, to_std = lab_measure(target)
    gain = np.minimum(to_std.clip(0.5) / std.clip(0.5), CAP["lab"])
    return lab_to_srgb((rgb2lab(image) - mean) * gain + to_mean)


def lab_to_srgb(lab):
    """Return float levels; scikit-image's own way back sets a negative Z to 0 before the matrix."""
    y = (lab[..., 0] + 16) / 116
    f = np.stack([y + lab[..., 1] / 500, y, y - lab[..., 2] / 200], axis=-1)
    xyz = np.where(f > 6 / 29, f**3, (f - 16 / 116) / 7.787) * [0.95047, 1.0, 1.08883]
    light = np.clip(xyz @ np.linalg.inv(xyz_from_rgb).T, 0, 1)
    return 255 * np.where(
        light > 0.0031308, 1.055 * np.maximum(light, 1e-9) ** (1 / 2.4) - 0.055, 12.92 * light
    )


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
    if stains[0, 0] - stains[0, 2] < stains[1, 0] - stains[1, 2]:
        stains = stains[::-1]
    return stains, np.percentile(od @ np.linalg.pinv(stains), 99, axis=0)


def third(stains):
    normal = np.cross(*stains)
    return np.vstack([stains, normal / np.linalg.norm(normal)])


def macenko(image, target, residual="keep"):
    stains, strong = macenko_measure(image)
    to_stains, to_strong = macenko_measure(target)
    straight, crossed = (np.sum(s * to_stains) for s in (stains, stains[::-1]))
    if crossed > straight:
        stains, strong = stains[::-1], strong[::-1]
    gain = np.minimum(to_strong.clip(0.02) / strong.clip(0.02), CAP["density"])
    # a linear system a pixel, as the textbooks write it
    amounts = np.linalg.solve(third(stains).T, density(image).T).T
    amounts *= [*gain, residual == "keep"]
    od = amounts @ third(to_stains)
    return np.clip(256 * np.exp(-od) - 1, 0, 255).reshape(image.shape)
