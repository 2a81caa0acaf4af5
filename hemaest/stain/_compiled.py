"""The pixel arithmetic in numba: nogil, cached on disk, one thread a call.

Pixels are read through ``(flat, step, n)``: channel ``c`` of pixel ``i`` is
``flat[i * step + c]``, with a step of 3 or 4. Work goes in blocks (``_blocks``). Written by hand
since no library has them: NumPy and OpenCV make some twenty passes over memory for the same.

``_plain`` has the same public functions in NumPy.
"""

import numpy as np

from hemaest._numba import kernel
from hemaest.stain._blocks import (
    BLOCK,
    F32,
    I32,
    STILL,
    THIRD,
    TO_RGB,
    TO_XYZ,
    add_moments,
    affine,
    fade,
    from_density,
    from_f,
    from_linear,
    load,
    store,
    to_density,
    to_f,
    to_linear,
)


@kernel
def foreground(flat, step, n, by_light, limit):
    """Return the pixels that are dark enough, 4 bytes each, and how many there are.

    The limit is one of the product of the three ``value + 1``, that is of the mean density, or
    with ``by_light`` of the luminance.
    """
    kept = np.empty(n + 1, np.uint32)
    raw, x = np.empty((3, BLOCK), F32), np.empty((3, BLOCK), F32)
    light, packed, dark = (
        np.empty(BLOCK, F32),
        np.empty(BLOCK, np.uint32),
        np.empty(BLOCK, np.uint8),
    )
    a, b, c = raw[0], raw[1], raw[2]
    r, g, b_ = TO_XYZ[1, 0], TO_XYZ[1, 1], TO_XYZ[1, 2]
    count = 0
    for start in range(0, n, BLOCK):
        m = min(BLOCK, n - start)
        load(flat, step, start, m, F32(0), raw)
        if by_light:
            to_linear(m, raw, x)
            p, q, s = x[0], x[1], x[2]
            for i in range(m):
                light[i] = r * p[i] + g * q[i] + b_ * s[i]
        else:
            for i in range(m):
                light[i] = (a[i] + F32(1)) * (b[i] + F32(1)) * (c[i] + F32(1))
        for i in range(m):
            dark[i] = light[i] <= limit
            packed[i] = np.uint32(I32(a[i]) | (I32(b[i]) << I32(8)) | (I32(c[i]) << I32(16)))
        for i in range(m):
            kept[count] = packed[i]
            count += dark[i]  # no branch to mispredict
    return kept.view(np.uint8), count


@kernel
def density_moments(flat, step, n):
    """Return count, sums and products of the optical densities."""
    sums = np.zeros(10)
    raw, x = np.empty((3, BLOCK), F32), np.empty((3, BLOCK), F32)
    for start in range(0, n, BLOCK):
        m = min(BLOCK, n - start)
        load(flat, step, start, m, F32(1), raw)
        to_density(m, raw, x)
        add_moments(m, x, sums)
    return sums


@kernel
def angle_counts(flat, step, n, frame, move, bins):
    """Return the histogram of the pixels' angle in the plane of two rows, as a diamond angle.

    The diamond angle ``y / (|x| + |y|)``, continued to (-2, 2), rises with the angle and needs
    no arc tangent.
    """
    counts = np.zeros(bins + 1, I32)
    raw, x = np.empty((3, BLOCK), F32), np.empty((3, BLOCK), F32)
    place = np.empty(BLOCK, I32)
    scale = F32(bins / 4)
    for start in range(0, n, BLOCK):
        m = min(BLOCK, n - start)
        load(flat, step, start, m, F32(1), raw)
        to_density(m, raw, x)
        affine(m, x, frame, move)
        a, b = x[0], x[1]
        for i in range(m):
            p, q = a[i], b[i]
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
    counts = np.zeros((2, bins), I32)
    raw, x = np.empty((3, BLOCK), F32), np.empty((3, BLOCK), F32)
    place = np.empty(BLOCK, I32)
    least = np.full(1, low, F32)
    first, top = least.view(I32)[0] >> shift, bins - 1
    for start in range(0, n, BLOCK):
        m = min(BLOCK, n - start)
        load(flat, step, start, m, F32(1), raw)
        to_density(m, raw, x)
        affine(m, x, unmix, move)
        for k in range(2):
            t, count = x[k], counts[k]
            bits = t.view(I32)
            for i in range(m):
                t[i] = max(t[i], low)
            for i in range(m):
                place[i] = min((bits[i] >> shift) - first, top)
            for i in range(m):
                count[place[i]] += 1
    return counts


@kernel
def at_ranks(counts, ranks):
    """Return the bin that holds each of the ascending ranks (counted from 0)."""
    places = np.zeros(len(ranks), np.int64)
    seen, k, start = 0, 0, 0
    while k < len(ranks) and start < len(counts):
        stop = min(start + 256, len(counts))
        block = 0
        for i in range(start, stop):
            block += counts[i]
        if ranks[k] < seen + block:
            for i in range(start, stop):
                seen += counts[i]
                while k < len(ranks) and ranks[k] < seen:
                    places[k] = i
                    k += 1
        else:
            seen += block
        start = stop
    return places


@kernel
def apply_density(flat, step, matrix, move, near, far, out):
    """Write the pixels whose densities went through ``matrix @ density + move``.

    Where ``far > near``, pixels of a mean density under far fade into what they were.
    """
    n = flat.size // step
    raw, x = np.empty((3, BLOCK), F32), np.empty((3, BLOCK), F32)
    power, depth = np.empty(BLOCK, F32), np.empty(BLOCK, F32)
    for start in range(0, n, BLOCK):
        m = min(BLOCK, n - start)
        load(flat, step, start, m, F32(1), raw)
        to_density(m, raw, x)
        if far > near:
            a, b, c = x[0], x[1], x[2]
            for i in range(m):
                depth[i] = (a[i] + b[i] + c[i]) * THIRD
        affine(m, x, matrix, move)
        from_density(m, x, power)
        if far > near:
            fade(m, x, raw, F32(1), depth, near, far)
        store(out, step, flat, start, m, x)


@kernel
def lab_moments(flat, step, n):
    """Return count, sums and products of f(X), f(Y), f(Z), in which CIELAB is linear."""
    sums = np.zeros(10)
    raw, x = np.empty((3, BLOCK), F32), np.empty((3, BLOCK), F32)
    spare = np.empty(BLOCK, F32)
    for start in range(0, n, BLOCK):
        m = min(BLOCK, n - start)
        load(flat, step, start, m, F32(0), raw)
        to_linear(m, raw, x)
        affine(m, x, TO_XYZ, STILL)
        to_f(m, x, spare)
        add_moments(m, x, sums)
    return sums


@kernel
def apply_lab(flat, step, matrix, move, near, far, out):
    """Write the pixels whose f(X), f(Y), f(Z) went through ``matrix @ f + move``.

    Where ``far > near``, pixels whose ``1 - f(Y)`` is under far fade into what they were.
    """
    n = flat.size // step
    raw, x = np.empty((3, BLOCK), F32), np.empty((3, BLOCK), F32)
    spare, depth = np.empty(BLOCK, F32), np.empty(BLOCK, F32)
    for start in range(0, n, BLOCK):
        m = min(BLOCK, n - start)
        load(flat, step, start, m, F32(0), raw)
        to_linear(m, raw, x)
        affine(m, x, TO_XYZ, STILL)
        to_f(m, x, spare)
        if far > near:
            y = x[1]
            for i in range(m):
                depth[i] = F32(1) - y[i]
        affine(m, x, matrix, move)
        from_f(m, x)
        affine(m, x, TO_RGB, STILL)
        from_linear(m, x, spare)
        if far > near:
            fade(m, x, raw, F32(0), depth, near, far)
        store(out, step, flat, start, m, x)


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
            a00 = a01 = a11 = b00 = b01 = b02 = b10 = b11 = b12 = F32(0)
            for i in range(start, min(start + BLOCK, n)):
                x, y, z = r[i], g[i], b[i]
                c0 = w00 * x + w01 * y + w02 * z - lam
                c1 = w10 * x + w11 * y + w12 * z - lam
                h0, h1 = (c0 - like * c1) * inverse, (c1 - like * c0) * inverse
                p = c0 if h1 < F32(0) else h0
                q = c1 if h0 < F32(0) else h1
                h0, h1 = max(p, F32(0)), max(q, F32(0))
                h0 = F32(0) if c0 - like * h1 < F32(0) else h0
                h1 = F32(0) if c1 - like * h0 < F32(0) else h1
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
