"""The pixel arithmetic in numba: nogil, cached on disk, one thread a call.

Pixels are read through ``(flat, step, n)``: channel ``c`` of pixel ``i`` is
``flat[i * step + c]``, with a step of 3 or 4. Work goes in blocks, each value through the functions
of ``_pixel_kernels``. The normalizers and the augmenter call these. Written by hand since no
library has them: NumPy and OpenCV make some twenty passes over memory for the same.
"""

import numpy as np

from hemaest._color import RGB_TO_XYZ, XYZ_TO_RGB
from hemaest._numba import kernel
from hemaest.stain._pixel_kernels import (
    BLOCK,
    F32,
    I32,
    THIRD,
    U8,
    UNIT_BITS,
    WHITE_BITS,
    add_moments,
    compress,
    density,
    expand,
    from_linear,
    level,
    linear,
    load,
    mix,
    store,
)

U32 = np.uint32
NOTHING, ALL = F32(0), F32(1)
GOLDEN = (5**0.5 - 1) / 2
X0, X1, X2, Y0, Y1, Y2, Z0, Z1, Z2 = (F32(v) for v in RGB_TO_XYZ.ravel())
A0, A1, A2, B0, B1, B2, C0, C1, C2 = (F32(v) for v in XYZ_TO_RGB.ravel())


@kernel
def bright_levels(flat, step, width, stride, share):
    """Return the level of each channel that one in ``share`` pixels reaches.

    Of the pixels in every ``stride``-th row and column.
    """
    counts = np.zeros((3, 256), I32)
    n, height = 0, flat.size // (step * width)
    for row in range(0, height, stride):
        for column in range(0, width, stride):
            at = (row * width + column) * step
            for k in range(3):
                counts[k, flat[at + k]] += 1
            n += 1
    levels = np.empty(3, np.int64)
    for k in range(3):
        brighter, found = n // share, 255
        while brighter >= counts[k, found]:
            brighter -= counts[k, found]
            found -= 1
        levels[k] = found
    return levels


@kernel
def foreground(flat, step, n, by_light, limit):
    """Return the pixels that are dark enough, 4 bytes each, and how many there are.

    The limit is one of the product of the three ``value + 1``, that is of the mean density, or
    with ``by_light`` of the luminance.
    """
    kept = np.empty(n + 1, U32)
    x, packed, dark = np.empty((3, BLOCK), F32), np.empty(BLOCK, U32), np.empty(BLOCK, U32)
    a, b, c = x[0], x[1], x[2]
    count = 0
    for start in range(0, n, BLOCK):
        m = min(BLOCK, n - start)
        load(flat, step, start, m, F32(0), x)
        if by_light:
            for i in range(m):
                light = Y0 * linear(a[i]) + Y1 * linear(b[i]) + Y2 * linear(c[i])
                dark[i] = U32(light <= limit)
        else:
            for i in range(m):
                light = (a[i] + F32(1)) * (b[i] + F32(1)) * (c[i] + F32(1))
                dark[i] = U32(light <= limit)
        for i in range(m):
            # exact: the color in three bytes is a whole number under 2**24
            packed[i] = U32(I32(a[i] + F32(256) * b[i] + F32(65536) * c[i]))
        for i in range(m):
            kept[count] = packed[i]
            count += dark[i]  # no branch to mispredict
    return kept.view(U8), count


@kernel
def density_moments(flat, step, n, light):
    """Return count, sums and products of the optical densities less those of the glass."""
    sums, x = np.zeros(10), np.empty((3, BLOCK), F32)
    u, v, w = light[0], light[1], light[2]
    for start in range(0, n, BLOCK):
        m = min(BLOCK, n - start)
        load(flat, step, start, m, F32(1), x)
        a, b, c = x[0], x[1], x[2]
        for i in range(m):
            a[i], b[i], c[i] = density(a[i]) - u, density(b[i]) - v, density(c[i]) - w
        add_moments(m, x, sums)
    return sums


@kernel
def angle_counts(flat, step, n, frame, move, bins):
    """Return the histogram of the pixels' angle in the plane of two rows, as a diamond angle.

    The diamond angle ``y / (|x| + |y|)``, continued to (-2, 2), rises with the angle and needs
    no arc tangent.
    """
    counts, x, place = np.zeros(bins + 1, I32), np.empty((3, BLOCK), F32), np.empty(BLOCK, I32)
    a, b, c = x[0], x[1], x[2]
    p0, p1, p2, p3 = frame[0, 0], frame[0, 1], frame[0, 2], move[0]
    q0, q1, q2, q3 = frame[1, 0], frame[1, 1], frame[1, 2], move[1]
    scale = F32(bins / 4)
    for start in range(0, n, BLOCK):
        m = min(BLOCK, n - start)
        load(flat, step, start, m, F32(1), x)
        for i in range(m):
            u, v, w = density(a[i]), density(b[i]), density(c[i])
            p, q = p0 * u + p1 * v + p2 * w + p3, q0 * u + q1 * v + q2 * w + q3
            t = q / (abs(p) + abs(q) + F32(1e-30))
            turned = F32(2) - t if q >= F32(0) else F32(-2) - t
            place[i] = I32(((t if p >= F32(0) else turned) + F32(2)) * scale)
        for i in range(m):
            counts[place[i]] += 1
    return counts


@kernel
def concentration_counts(flat, step, n, unmix, move, low, shift, bins):
    """Return the histograms of two concentrations, with bins of equal ratio from low on.

    The leading bits of a positive float32 are such a scale already.
    """
    counts, x, place = (
        np.zeros((2, bins), I32),
        np.empty((3, BLOCK), F32),
        np.empty((2, BLOCK), I32),
    )
    a, b, c = x[0], x[1], x[2]
    first_place, second_place = place[0], place[1]
    p0, p1, p2, p3 = unmix[0, 0], unmix[0, 1], unmix[0, 2], move[0]
    q0, q1, q2, q3 = unmix[1, 0], unmix[1, 1], unmix[1, 2], move[1]
    least = F32(low)
    first, top = I32(least.view(I32) >> shift), I32(bins - 1)
    for start in range(0, n, BLOCK):
        m = min(BLOCK, n - start)
        load(flat, step, start, m, F32(1), x)
        for i in range(m):
            u, v, w = density(a[i]), density(b[i]), density(c[i])
            p = max(p0 * u + p1 * v + p2 * w + p3, least)
            q = max(q0 * u + q1 * v + q2 * w + q3, least)
            first_place[i] = min(I32(F32(p).view(I32) >> shift) - first, top)
            second_place[i] = min(I32(F32(q).view(I32) >> shift) - first, top)
        for i in range(m):
            counts[0, first_place[i]] += 1
            counts[1, second_place[i]] += 1
    return counts


@kernel
def at_ranks(counts, ranks):
    """Return the bins that hold the values below and above each of the ascending ranks.

    Ranks are counted from 0 and need not be whole.
    """
    wanted = np.stack((np.floor(ranks), np.ceil(ranks)), axis=1).ravel()
    places = np.zeros(len(wanted), np.int64)
    seen, k, start = 0, 0, 0
    while k < len(wanted) and start < len(counts):
        stop = min(start + 256, len(counts))
        block = 0
        for i in range(start, stop):
            block += counts[i]
        if wanted[k] < seen + block:
            for i in range(start, stop):
                seen += counts[i]
                while k < len(wanted) and wanted[k] < seen:
                    places[k] = i
                    k += 1
        else:
            seen += block
        start = stop
    return places[::2], places[1::2]


@kernel
def apply_density(flat, step, matrix, move, near, far, out):
    """Write the pixels whose densities went through ``matrix @ density + move``.

    Where ``far > near``, pixels of a mean density under far fade into what they were.
    """
    n, x = flat.size // step, np.empty((3, BLOCK), F32)
    a, b, c = x[0], x[1], x[2]
    # straight to the bits of the exponential
    rows = (matrix * UNIT_BITS).astype(F32)
    shift = (move * UNIT_BITS + WHITE_BITS).astype(F32)
    p0, p1, p2, p3 = rows[0, 0], rows[0, 1], rows[0, 2], shift[0]
    q0, q1, q2, q3 = rows[1, 0], rows[1, 1], rows[1, 2], shift[1]
    r0, r1, r2, r3 = rows[2, 0], rows[2, 1], rows[2, 2], shift[2]
    fades = far > near
    slope = F32(1) / (far - near) if fades else F32(0)
    for start in range(0, n, BLOCK):
        m = min(BLOCK, n - start)
        load(flat, step, start, m, F32(1), x)
        for i in range(m):
            u, v, w = density(a[i]), density(b[i]), density(c[i])
            p = level(p0 * u + p1 * v + p2 * w + p3)
            q = level(q0 * u + q1 * v + q2 * w + q3)
            r = level(r0 * u + r1 * v + r2 * w + r3)
            if fades:
                weight = min(max(((u + v + w) * THIRD - near) * slope, NOTHING), ALL)
                p = mix(a[i] - F32(1), p, weight)
                q = mix(b[i] - F32(1), q, weight)
                r = mix(c[i] - F32(1), r, weight)
            a[i], b[i], c[i] = p, q, r
        store(out, step, flat, start, m, x)


@kernel
def to_f(m, x):
    """Replace a block of sRGB values by f(X), f(Y), f(Z)."""
    a, b, c = x[0], x[1], x[2]
    for i in range(m):
        u, v, w = linear(a[i]), linear(b[i]), linear(c[i])
        a[i] = compress(X0 * u + X1 * v + X2 * w)
        b[i] = compress(Y0 * u + Y1 * v + Y2 * w)
        c[i] = compress(Z0 * u + Z1 * v + Z2 * w)


@kernel
def lab_moments(flat, step, n):
    """Return count, sums and products of f(X), f(Y), f(Z), in which CIELAB is linear."""
    sums, x = np.zeros(10), np.empty((3, BLOCK), F32)
    for start in range(0, n, BLOCK):
        m = min(BLOCK, n - start)
        load(flat, step, start, m, F32(0), x)
        to_f(m, x)
        add_moments(m, x, sums)
    return sums


@kernel
def apply_lab(flat, step, matrix, move, near, far, out):
    """Write the pixels whose f(X), f(Y), f(Z) went through ``matrix @ f + move``.

    Where ``far > near``, pixels whose ``1 - f(Y)`` is under far fade into what they were.
    """
    n, x = flat.size // step, np.empty((3, BLOCK), F32)
    a, b, c = x[0], x[1], x[2]
    p0, p1, p2, p3 = matrix[0, 0], matrix[0, 1], matrix[0, 2], move[0]
    q0, q1, q2, q3 = matrix[1, 0], matrix[1, 1], matrix[1, 2], move[1]
    r0, r1, r2, r3 = matrix[2, 0], matrix[2, 1], matrix[2, 2], move[2]
    fades = far > near
    slope = F32(1) / (far - near) if fades else F32(0)
    old = np.empty((3, BLOCK), F32)
    for start in range(0, n, BLOCK):
        m = min(BLOCK, n - start)
        load(flat, step, start, m, F32(0), x)
        if fades:
            old[:, :m] = x[:, :m]
        to_f(m, x)
        for i in range(m):
            u, v, w = a[i], b[i], c[i]
            p = expand(p0 * u + p1 * v + p2 * w + p3)
            q = expand(q0 * u + q1 * v + q2 * w + q3)
            r = expand(r0 * u + r1 * v + r2 * w + r3)
            red = from_linear(A0 * p + A1 * q + A2 * r)
            green = from_linear(B0 * p + B1 * q + B2 * r)
            blue = from_linear(C0 * p + C1 * q + C2 * r)
            if fades:
                weight = min(max((F32(1) - v - near) * slope, NOTHING), ALL)
                red = mix(old[0, i], red, weight)
                green = mix(old[1, i], green, weight)
                blue = mix(old[2, i], blue, weight)
            a[i], b[i], c[i] = red, green, blue
        store(out, step, flat, start, m, x)


@kernel
def spread_densities(flat, step, n, first, total, size):
    """Return three planes of densities of some pixels of one image, spread evenly.

    They are those of ``size`` places among the ``total`` pixels of a pool, of which pixels
    ``first`` to ``first + n`` are this image's: one in each stretch, each time elsewhere in it,
    so that they keep step with no pattern of the image.
    """
    planes, count = np.empty((3, min(n, size)), F32), 0
    stretch = max(total / size, 1.0)
    for k in range(int(first / stretch), min(size, total)):
        turn = k * GOLDEN
        at = int((k + turn - np.floor(turn)) * stretch) if stretch > 1 else k
        if at >= first + n:
            break
        if at >= first:
            place = (at - first) * step
            planes[0, count] = flat[place]
            planes[1, count] = flat[place + 1]
            planes[2, count] = flat[place + 2]
            count += 1
    result = np.empty((3, count), F32)
    for k in range(3):
        old, new = planes[k], result[k]
        for i in range(count):
            new[i] = density(old[i] + F32(1))
    return result


@kernel
def sparse_basis(density, basis, sparsity, max_iter, tolerance):
    """Return two non-negative unit rows W that minimize |V - H W|^2 / 2 + sparsity |H|, H >= 0.

    The codes of two stains have a closed form; each turn sums what the next W needs and keeps no
    H. V is ``density``, three planes.
    """
    W = basis.copy()
    r, g, b = density[0], density[1], density[2]
    n, lam = len(r), F32(sparsity)
    for _ in range(max_iter):
        w00, w01, w02 = F32(W[0, 0]), F32(W[0, 1]), F32(W[0, 2])
        w10, w11, w12 = F32(W[1, 0]), F32(W[1, 1]), F32(W[1, 2])
        like = w00 * w10 + w01 * w11 + w02 * w12
        inverse = F32(1) / max(F32(1) - like * like, F32(1e-6))
        A, B = np.zeros((2, 2)), np.zeros((2, 3))
        for start in range(0, n, BLOCK):
            m = min(BLOCK, n - start)
            xs, ys, zs = r[start : start + m], g[start : start + m], b[start : start + m]
            a00 = a01 = a11 = b00 = b01 = b02 = b10 = b11 = b12 = F32(0)
            for i in range(m):
                x, y, z = xs[i], ys[i], zs[i]
                c0 = w00 * x + w01 * y + w02 * z - lam
                c1 = w10 * x + w11 * y + w12 * z - lam
                h0, h1 = (c0 - like * c1) * inverse, (c1 - like * c0) * inverse
                # a stain that would be negative leaves the other alone
                alone0, alone1 = max(c0, F32(0)), max(c1, F32(0))
                both0, both1 = max(h0, F32(0)), max(h1, F32(0))
                both0 = alone0 if h1 < F32(0) else both0
                both1 = alone1 if h0 < F32(0) else both1
                h0, h1 = both0, both1
                a00 += h0 * h0
                a01 += h0 * h1
                a11 += h1 * h1
                b00 += h0 * x
                b01 += h0 * y
                b02 += h0 * z
                b10 += h1 * x
                b11 += h1 * y
                b12 += h1 * z
            A[0, 0] += a00
            A[0, 1] += a01
            A[1, 1] += a11
            B[0, 0] += b00
            B[0, 1] += b01
            B[0, 2] += b02
            B[1, 0] += b10
            B[1, 1] += b11
            B[1, 2] += b12
        A[1, 0] = A[0, 1]
        moved = 0.0
        for j in range(2):
            if A[j, j] <= 0:
                continue
            row, length = np.zeros(3), 0.0
            for k in range(3):
                row[k] = max(
                    W[j, k] + (B[j, k] - A[j, 0] * W[0, k] - A[j, 1] * W[1, k]) / A[j, j], 0
                )
                length += row[k] * row[k]
            if length <= 0:
                continue
            for k in range(3):
                new = row[k] / np.sqrt(length)
                moved = max(moved, abs(new - W[j, k]))
                W[j, k] = new
        if moved < tolerance:
            break
    return W
