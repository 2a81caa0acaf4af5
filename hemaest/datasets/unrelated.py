"""Pictures of anything but a stained film: a network has to see them to know what it does not know.

``hemaest.pretrained`` trains with them. Plain patterns, and drawings of what people photograph: a
picture of the world is things before one another, large and small, each with a color, a light and a
texture of its own, and it has a spectrum that is about the same whatever it shows.
"""

from collections.abc import Callable

import numpy as np

__all__ = ["draw_unrelated"]


def draw_unrelated(size: int, rng: np.random.Generator) -> np.ndarray:
    """Return a square picture that shows no stained film.

    Parameters
    ----------
    size : int
        Its side in pixels.
    rng : numpy.random.Generator

    Returns
    -------
    image : uint8 array (size, size, 3)

    Examples
    --------
    >>> import numpy as np
    >>> draw_unrelated(64, np.random.default_rng(0)).shape
    (64, 64, 3)
    """
    import cv2

    drawers, shares = zip(*_DRAWERS, strict=True)
    draw: Callable = drawers[rng.choice(len(drawers), p=np.array(shares) / sum(shares))]
    image = np.clip(draw(size, rng), 0, 255).astype(np.uint8)
    if rng.random() < 0.35:
        image = cv2.GaussianBlur(image, (0, 0), rng.uniform(0.3, 2.5))
    grain = rng.uniform(0, 10) * rng.standard_normal(image.shape)
    return np.clip(image + grain, 0, 255).astype(np.uint8)


def _color(rng: np.random.Generator) -> tuple[int, ...]:
    return tuple(int(v) for v in rng.integers(0, 256, 3))


def _natural(size: int, rng: np.random.Generator, power: float) -> np.ndarray:
    """Return noise whose spectrum falls with a power, of mean 0 and spread 1."""
    f = np.hypot(np.fft.fftfreq(size)[:, None], np.fft.rfftfreq(size)[None]) + 1 / size
    plane = np.fft.irfft2(np.fft.rfft2(rng.standard_normal((size, size))) / f**power, (size, size))
    return ((plane - plane.mean()) / (plane.std() + 1e-6)).astype(np.float32)


def _soft(size: int, rng: np.random.Generator, coarse: int, channels: int = 1) -> np.ndarray:
    """Return smooth noise with about so many hills a side, of spread near 1."""
    import cv2

    noise = rng.standard_normal((coarse, coarse, channels)).astype(np.float32)
    return cv2.resize(noise, (size, size), interpolation=cv2.INTER_CUBIC).reshape(size, size, -1)


def _letters(size: int, rng: np.random.Generator) -> np.ndarray:
    """Draw lines of writing."""
    import cv2

    image = np.full((size, size, 3), _color(rng), np.uint8)
    ink = _color(rng)
    for row in range(int(rng.integers(4, 14)), size + 8, int(rng.integers(9, 30))):
        text = "".join(chr(c) for c in rng.integers(33, 123, max(14, size // 8)))
        font = int(rng.integers(8))
        cv2.putText(image, text, (-4, row), font, rng.uniform(0.25, 1.2), ink, 1 + row % 2)
    return image


def _page(size: int, rng: np.random.Generator) -> np.ndarray:
    """Draw a printed page, held a little askew in uneven light: words, rules, a figure."""
    import cv2

    paper = rng.uniform(150, 255) * np.exp(0.1 * rng.standard_normal(3))
    ink = paper * rng.uniform(0, 0.5)
    image = np.full((size, size, 3), np.clip(paper, 0, 255), np.uint8)
    scale = rng.uniform(0.22, 0.9)
    step, left = int(28 * scale + rng.uniform(2, 8)), int(rng.uniform(0, 0.15) * size)
    for row in range(step, size, step):
        if rng.random() < 0.1:
            continue
        x = left
        while x < size * rng.uniform(0.7, 1):
            word = "".join(chr(97 + c) for c in rng.integers(0, 26, rng.integers(1, 10)))
            cv2.putText(image, word, (x, row), 0, scale, tuple(ink), 1, cv2.LINE_AA)
            x += int((len(word) + 1) * 18 * scale)
    for _ in range(rng.integers(0, 4)):
        a, b = rng.integers(0, size, (2, 2)).tolist()
        if rng.random() < 0.5:
            cv2.rectangle(image, a, b, _color(rng), int(rng.choice([-1, 1, 2])))
        else:
            cv2.line(image, a, [b[0], a[1]], tuple(ink), 1)
    turn = cv2.getRotationMatrix2D((size / 2, size / 2), 8 * rng.standard_normal(), 1.15)
    image = cv2.warpAffine(image, turn, (size, size), borderMode=cv2.BORDER_REFLECT)
    return image * np.exp(0.12 * _soft(size, rng, 3))


def _drawing(size: int, rng: np.random.Generator) -> np.ndarray:
    """Draw plain shapes with sharp edges: signs, silhouettes, diagrams, screens."""
    import cv2

    image = np.full((size, size, 3), _color(rng), np.uint8)
    if rng.random() < 0.5:
        image[:] = rng.choice([0, 255])
    one = _color(rng) if rng.random() < 0.3 else None
    thick = -1 if rng.random() < 0.7 else int(rng.integers(1, 4))
    for _ in range(int(np.exp(rng.uniform(np.log(2), np.log(40))))):
        color, kind = one or _color(rng), rng.integers(4)
        middle, reach = rng.uniform(0, size, 2), size * rng.uniform(0.02, 0.4)
        if kind == 0:
            cv2.circle(image, middle.astype(int).tolist(), int(reach), color, thick, cv2.LINE_AA)
        elif kind == 1:
            corners = (middle + rng.uniform(-reach, reach, (rng.integers(3, 6), 2))).astype(int)
            cv2.polylines(image, [corners], True, color, 2) if thick > 0 else cv2.fillPoly(
                image, [corners], color
            )
        elif kind == 2:
            end = middle + rng.uniform(0.2, 1.5, 2) * reach
            cv2.rectangle(
                image, middle.astype(int).tolist(), end.astype(int).tolist(), color, thick
            )
        else:
            curve = _outline(middle, reach, rng)
            cv2.polylines(image, [curve], True, color, 2) if thick > 0 else cv2.fillPoly(
                image, [curve], color
            )
    if rng.random() < 0.4:  # as on a screen: each color runs into another
        image = image * np.exp(rng.uniform(0.1, 0.5) * _soft(size, rng, 3, int(rng.choice([1, 3]))))
    return image


def _outline(middle: np.ndarray, reach: float, rng: np.random.Generator) -> np.ndarray:
    """Return the corners of a smooth closed curve, round to star-shaped."""
    angle = np.linspace(0, 2 * np.pi, 40, endpoint=False)
    far = np.ones(40)
    for wave in range(1, 7):
        far += rng.uniform(0, 0.6) / wave * np.cos(wave * angle + rng.uniform(0, 2 * np.pi))
    way = np.stack([np.cos(angle), rng.uniform(0.4, 1) * np.sin(angle)], axis=1)
    return (middle + reach * far[:, None] * way).astype(np.int32)


def _stripes(size: int, rng: np.random.Generator) -> np.ndarray:
    """Draw stripes and boards."""
    row, column = np.mgrid[:size, :size] / size
    way, number = rng.uniform(0, np.pi), rng.uniform(2, 25)
    wave = np.sin(2 * np.pi * number * (row * np.sin(way) + column * np.cos(way)))
    wave = wave * np.cos(2 * np.pi * number * (row * np.cos(way) - column * np.sin(way)))
    wave = np.sign(wave) if rng.random() < 0.5 else wave
    return np.array(_color(rng)) + rng.uniform(20, 120) * wave[..., None]


def _noise(size: int, rng: np.random.Generator) -> np.ndarray:
    """Draw noise with a natural spectrum, as of fur and cloth."""
    power = rng.uniform(0.3, 2.2)
    stack = np.stack([_natural(size, rng, power) for _ in range(3)], axis=-1)
    stack = stack @ (rng.standard_normal((3, 3)) * 0.4 + rng.uniform(0, 1.5))
    stack = (stack - stack.mean()) / (stack.std() + 1e-6)
    return np.array(_color(rng)) + rng.uniform(15, 80) * stack


def _blobs(size: int, rng: np.random.Generator) -> np.ndarray:
    """Draw large soft blobs: a lens cap, a hand, a sky."""
    return np.array(_color(rng)) + 60 * _soft(size, rng, int(rng.integers(2, 7)), 3)


def _tissue(size: int, rng: np.random.Generator) -> np.ndarray:
    """Draw a section: crowded nuclei, in rings or strewn, among fibers, with holes."""
    import cv2

    nuclei = np.zeros((size, size), np.float32)
    unit = rng.uniform(1.5, 9)
    dense = _natural(size, rng, rng.uniform(1.0, 2.0))
    number = int(rng.uniform(0.1, 0.9) * (size / (2.2 * unit)) ** 2)
    for x, y in rng.integers(0, size, (min(number, 1500), 2)):
        if dense[y, x] > -0.6:
            axes = tuple(max(1, int(v)) for v in unit * rng.uniform(0.6, 1.3, 2))
            deep = float(rng.uniform(0.4, 1.0))
            cv2.ellipse(nuclei, (int(x), int(y)), axes, rng.uniform(0, 180), 0, 360, deep, -1)
    fibers = _natural(size, rng, rng.uniform(0.8, 1.6))
    long = int(max(1, size / rng.uniform(8, 60)))
    fibers = cv2.blur(fibers, (long, 1) if rng.random() < 0.5 else (1, long))
    fibers = np.clip(0.5 + rng.uniform(0.1, 0.5) * fibers / (fibers.std() + 1e-6), 0, 1.6)
    holes = _soft(size, rng, int(rng.integers(3, 12)))[..., 0] > rng.uniform(0.5, 2.5)
    fibers[holes] = 0
    nuclei[holes] *= 0.3
    # what each of both dyes lets through; a brown or a gray one as well as violet and pink
    first, second = rng.uniform((0.6, 1.0, 0.2), (1.5, 1.8, 1.2)), rng.uniform((0.0, 0.4, 0.1), 0.9)
    if rng.random() < 0.35:
        first, second = rng.uniform(0.3, 1.6, 3), rng.uniform(0.0, 0.7, 3)
    nuclei = cv2.GaussianBlur(nuclei, (0, 0), rng.uniform(0.4, 1.2))
    return rng.uniform(190, 250) * np.exp(-nuclei[..., None] * first - fibers[..., None] * second)


def _night(size: int, rng: np.random.Generator) -> np.ndarray:
    """Draw lights in the dark, from stars to lamps out of focus."""
    import cv2

    image = np.full((size, size, 3), rng.uniform(0, 40, 3), np.float32)
    if rng.random() < 0.5:
        image += rng.uniform(0, 40) * np.abs(_natural(size, rng, 1.5))[..., None] * rng.random(3)
    top = 1 + 0.03 * size * rng.random()
    for x, y in rng.integers(0, size, (int(np.exp(rng.uniform(np.log(5), np.log(400)))), 2)):
        radius = int(min(0.5 + rng.pareto(1.5), top))
        lamp = 255 * rng.uniform(0.2, 1) * np.clip(1 + 0.3 * rng.standard_normal(3), 0, 1)
        cv2.circle(image, (int(x), int(y)), radius, lamp.tolist(), -1, cv2.LINE_AA)
    return cv2.GaussianBlur(image, (0, 0), rng.uniform(0.5, 3)) * rng.uniform(1, 2)


def _relief(size: int, rng: np.random.Generator) -> np.ndarray:
    """Draw an uneven surface in light from one side: gravel, walls, the moon, coins, cloth."""
    import cv2

    height = _natural(size, rng, rng.uniform(1.1, 1.9)) * rng.uniform(0.3, 2)
    bumps = np.zeros((size, size), np.float32)
    reach = size * np.exp(rng.uniform(np.log(0.01), np.log(0.15)))
    for x, y in rng.integers(0, size, (int(rng.uniform(0, 300)), 2)):
        radius = max(1, int(reach * rng.uniform(0.3, 1.2)))
        cv2.circle(bumps, (int(x), int(y)), radius, float(rng.uniform(-1, 1)), -1)
    height += rng.uniform(0, 12) * cv2.GaussianBlur(bumps, (0, 0), rng.uniform(0.6, 3))
    way = rng.uniform(0, 2 * np.pi)
    slope = np.cos(way) * np.gradient(height, axis=0) + np.sin(way) * np.gradient(height, axis=1)
    slope /= slope.std() + 1e-6
    light = rng.uniform(0.3, 0.8) + rng.uniform(0.08, 0.3) * slope + 0.05 * height / height.std()
    return light[..., None] * (255 * (1 + 0.15 * rng.standard_normal(3)))


def _scene(size: int, rng: np.random.Generator) -> np.ndarray:
    """Draw things before one another, each with a color, a light and a texture of its own."""
    import cv2

    number = int(np.exp(rng.uniform(np.log(4), np.log(500))))
    reach = size * rng.uniform(0.01, 0.06) * (1 + rng.pareto(rng.uniform(0.9, 2.0), number))
    reach = np.minimum(reach, 0.55 * size)
    if rng.random() < 0.6:
        reach = -np.sort(-reach)
    middles = rng.uniform(-0.1, 1.1, (number, 2)) * size
    form = rng.dirichlet((0.7, 0.7, 0.7, 0.7))
    owner = np.zeros((size, size), np.uint16)
    for k, kind in enumerate(rng.choice(4, number, p=form)):
        if kind == 0:
            corners = _outline(middles[k], reach[k], rng)
        elif kind == 1:
            corners = middles[k] + rng.uniform(-reach[k], reach[k], (rng.integers(3, 7), 2))
        else:  # walls and boards; trunks, blades and wires
            across = rng.uniform(0.3, 1.0) if kind == 2 else rng.uniform(0.01, 0.15)
            size_of = reach[k] * (2 if kind == 3 else 1) * np.array([1, across])
            tilt = rng.uniform(0, 180) if rng.random() < 0.5 else rng.choice([0, 90])
            corners = cv2.boxPoints((middles[k].tolist(), (2 * size_of).tolist(), float(tilt)))
        cv2.fillPoly(owner, [np.asarray(corners).astype(np.int32)], k + 1)
    few = rng.uniform(0, 255, (int(rng.integers(2, 7)), 3))
    gray = few.mean(axis=1, keepdims=True)
    few = gray + rng.uniform(0.1, 1) * (few - gray)
    colors = few[rng.integers(len(few), size=number + 1)]
    colors = colors + rng.uniform(5, 45) * rng.standard_normal((number + 1, 1))
    y, x = np.mgrid[:size, :size].astype(np.float32) / size - 0.5
    ramps = (rng.uniform(0, 90) * rng.standard_normal((number + 1, 2))).astype(np.float32)
    shade = ramps[owner, 0] * y + ramps[owner, 1] * x
    textures = np.stack([_natural(size, rng, rng.uniform(0.4, 1.8)) for _ in range(3)], axis=-1)
    rough = rng.exponential(rng.uniform(1, 16), (number + 1, 3)).astype(np.float32)
    shade = shade + (rough[owner] * textures).sum(axis=-1)
    image = colors.astype(np.float32)[owner] + shade[..., None]
    image *= np.exp(rng.uniform(0, 0.5) * _soft(size, rng, int(rng.integers(2, 6))))
    if rng.random() < 0.3:
        _fur(image, rng)
    if rng.random() < 0.3:  # what lies far behind or near before the focus
        blurred = cv2.GaussianBlur(image, (0, 0), rng.uniform(2, 8))
        image = np.where(_soft(size, rng, 3) > 0, image, blurred)
    if rng.random() < 0.25:
        image = np.repeat(image.mean(axis=2, keepdims=True), 3, axis=2)
    return image


def _fur(image: np.ndarray, rng: np.random.Generator) -> None:
    """Paint fine strokes that run alongside: fur, grass, hair."""
    import cv2

    size = len(image)
    way = rng.uniform(0, np.pi) + rng.uniform(0.1, 0.8) * _soft(size, rng, 4)[..., 0]
    long = size * rng.uniform(0.02, 0.12)
    where = _soft(size, rng, 3)[..., 0] > rng.uniform(-1.5, 0.5)
    for x, y in rng.integers(0, size, (int(rng.uniform(100, 900)), 2)):
        if where[y, x]:
            tone = image[y, x] * np.float32(np.exp(0.35 * rng.standard_normal()))
            end = (int(x + long * np.cos(way[y, x])), int(y + long * np.sin(way[y, x])))
            cv2.line(image, (int(x), int(y)), end, tone.tolist(), 1)


# and how often each is drawn
_DRAWERS = (
    (_scene, 0.32),
    (_relief, 0.1),
    (_tissue, 0.14),
    (_page, 0.09),
    (_letters, 0.05),
    (_drawing, 0.14),
    (_night, 0.06),
    (_stripes, 0.04),
    (_noise, 0.06),
    (_blobs, 0.03),
)
