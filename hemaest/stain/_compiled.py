"""The pixel arithmetic in numba: nogil, cached on disk, one thread a call.

Pixels are read through ``(flat, step, n)``: channel ``c`` of pixel ``i`` is
``flat[i * step + c]``, with a step of 3 or 4. Work goes in blocks that stay in the first cache, as
short loops over float32 that LLVM turns into vector code; there is no table look-up and no call of
``log``, ``exp`` or ``pow`` in them. Written by hand since no library has them: NumPy and OpenCV
make some twenty passes over memory for the same.

``_plain`` has the same public functions in NumPy.
"""

from typing import Any

import numpy as np

from hemaest._color import RGB_TO_XYZ, XYZ_TO_RGB
from hemaest._numba import kernel

BLOCK = 2048
F32 = np.float32
I32 = np.int32

LOG_2 = F32(np.log(2))
LOG2_E = F32(1 / np.log(2))
FRACTION = I32(0x007FFFFF)
ONE = I32(0x3F800000)


def _polynomial(values: Any, x: Any, degree: int) -> Any:
    """Return the ascending coefficients of a near-best fit."""
    fit = np.polynomial.Chebyshev.fit(x, values, degree)
    return fit.convert(kind=np.polynomial.Polynomial).coef.astype(F32)


_unit = (1 - np.cos(np.linspace(0, np.pi, 4001))) / 2
_upper = 10 / 255 + _unit * 245 / 255
# within 2e-6, 4e-6 and 6e-6: a hundredth of a level is 4e-5
LOG = _polynomial(np.log(1 + _unit), 1 + _unit, 6)
EXP = _polynomial(np.exp2(_unit), _unit, 4)
LINEAR = _polynomial(((_upper + 0.055) / 1.055) ** 2.4, _upper, 6)
# a third of the exponent as first guess of a cube root
GUESS = I32(709921077)
THIRD = F32(1 / 3)
# the line that CIELAB puts in place of the cube (root) near black
JOINT = F32(6 / 29)
SLOPE = F32((29 / 6) ** 2 / 3)
FOOT = F32(4 / 29)
TO_XYZ = RGB_TO_XYZ.astype(F32)
TO_RGB = XYZ_TO_RGB.astype(F32)
STILL = np.zeros(3, F32)


@kernel
def _load(flat, step, start, m, bias, raw):
    """Read a block as floats plus bias; constant steps let LLVM read whole vectors."""
    a, b, c = raw[0], raw[1], raw[2]
    if step == 3:
        s = flat[3 * start : 3 * (start + m)]
        for i in range(m):
            a[i] = F32(s[3 * i]) + bias
            b[i] = F32(s[3 * i + 1]) + bias
            c[i] = F32(s[3 * i + 2]) + bias
    else:
        s = flat[4 * start : 4 * (start + m)]
        for i in range(m):
            a[i] = F32(s[4 * i]) + bias
            b[i] = F32(s[4 * i + 1]) + bias
            c[i] = F32(s[4 * i + 2]) + bias


@kernel
def _store(out, step, flat, start, m, x):
    """Round a block of floats into bytes; a fourth channel is copied."""
    a, b, c = x[0], x[1], x[2]
    if step == 3:
        s = out[3 * start : 3 * (start + m)]
        for i in range(m):
            s[3 * i] = np.uint8(I32(a[i] + F32(0.5)))
            s[3 * i + 1] = np.uint8(I32(b[i] + F32(0.5)))
            s[3 * i + 2] = np.uint8(I32(c[i] + F32(0.5)))
    else:
        s = out[4 * start : 4 * (start + m)]
        old = flat[4 * start : 4 * (start + m)]
        for i in range(m):
            s[4 * i] = np.uint8(I32(a[i] + F32(0.5)))
            s[4 * i + 1] = np.uint8(I32(b[i] + F32(0.5)))
            s[4 * i + 2] = np.uint8(I32(c[i] + F32(0.5)))
            s[4 * i + 3] = old[4 * i + 3]


@kernel
def _affine(m, x, matrix, move):
    a, b, c = x[0], x[1], x[2]
    m00, m01, m02 = matrix[0, 0], matrix[0, 1], matrix[0, 2]
    m10, m11, m12 = matrix[1, 0], matrix[1, 1], matrix[1, 2]
    m20, m21, m22 = matrix[2, 0], matrix[2, 1], matrix[2, 2]
    va, vb, vc = move[0], move[1], move[2]
    for i in range(m):
        p, q, r = a[i], b[i], c[i]
        a[i] = m00 * p + m01 * q + m02 * r + va
        b[i] = m10 * p + m11 * q + m12 * r + vb
        c[i] = m20 * p + m21 * q + m22 * r + vc


@kernel
def _fade(m, x, raw, bias, depth, near, far):
    """Mix the old value back in where depth is less than far; wholly so under near."""
    slope = F32(1) / (far - near)
    for i in range(m):
        depth[i] = min(max((depth[i] - near) * slope, F32(0)), F32(1))
    for k in range(3):
        new, old = x[k], raw[k]
        for i in range(m):
            before = old[i] - bias
            new[i] = before + depth[i] * (new[i] - before)


@kernel
def _to_density(m, raw, x):
    """Write log(256 / raw): the exponent apart, the fraction by a polynomial."""
    l0, l1, l2, l3 = F32(LOG[0]), F32(LOG[1]), F32(LOG[2]), F32(LOG[3])
    l4, l5, l6 = F32(LOG[4]), F32(LOG[5]), F32(LOG[6])
    for k in range(3):
        t, d = raw[k], x[k]
        bits, fraction = t.view(I32), d.view(I32)
        for i in range(m):
            fraction[i] = (bits[i] & FRACTION) | ONE
        for i in range(m):
            f = d[i]
            log = (((((l6 * f + l5) * f + l4) * f + l3) * f + l2) * f + l1) * f + l0
            d[i] = F32(I32(135) - (bits[i] >> I32(23))) * LOG_2 - log


@kernel
def _from_density(m, x, power):
    """Replace densities by 256 exp(-density) - 1, from -1 (which rounds to 0) to 255."""
    e0, e1, e2, e3 = F32(EXP[0]), F32(EXP[1]), F32(EXP[2]), F32(EXP[3])
    e4 = F32(EXP[4])
    whole = power.view(I32)
    for k in range(3):
        d = x[k]
        for i in range(m):
            # 2**8 and the bias 127 of the exponent; the ends are -1 and 255
            y = min(max(F32(135) - d[i] * LOG2_E, F32(100)), F32(135))
            n = I32(y)
            whole[i] = n << I32(23)
            d[i] = y - F32(n)
        for i in range(m):
            f = d[i]
            d[i] = ((((e4 * f + e3) * f + e2) * f + e1) * f + e0) * power[i] - F32(1)


@kernel
def _to_linear(m, raw, x):
    """Write the linear light of sRGB values."""
    c0, c1, c2, c3 = F32(LINEAR[0]), F32(LINEAR[1]), F32(LINEAR[2]), F32(LINEAR[3])
    c4, c5, c6 = F32(LINEAR[4]), F32(LINEAR[5]), F32(LINEAR[6])
    for k in range(3):
        t, d = raw[k], x[k]
        for i in range(m):
            v = t[i] * F32(1 / 255)
            p = (((((c6 * v + c5) * v + c4) * v + c3) * v + c2) * v + c1) * v + c0
            d[i] = p if v > F32(0.04045) else v * F32(1 / 12.92)


@kernel
def _cube_root(m, x, root):
    """Write cube roots of positive floats: one step of Halley leaves 3e-5."""
    bits, root_bits = x.view(I32), root.view(I32)
    for i in range(m):
        root_bits[i] = I32(F32(bits[i]) * THIRD) + GUESS
    for i in range(m):
        t, y = x[i], root[i]
        cube = y * y * y
        root[i] = y * (cube + t + t) / (cube + cube + t)


@kernel
def _to_f(m, x, spare):
    """Replace X, Y, Z by the f of CIELAB."""
    for k in range(3):
        t = x[k]
        _cube_root(m, t, spare)
        for i in range(m):
            t[i] = spare[i] if t[i] > JOINT * JOINT * JOINT else t[i] * SLOPE + FOOT


@kernel
def _from_f(m, x):
    for k in range(3):
        t = x[k]
        for i in range(m):
            f = t[i]
            t[i] = f * f * f if f > JOINT else (f - FOOT) * (F32(1) / SLOPE)


@kernel
def _from_linear(m, x, spare):
    """Replace linear light by sRGB values: t ** (1 / 2.4) is two square roots and a cube root."""
    for k in range(3):
        t = x[k]
        for i in range(m):
            t[i] = np.sqrt(min(max(t[i], F32(0)), F32(1)))
        _cube_root(m, t, spare)
        for i in range(m):
            s = t[i]
            light = s * s
            curve = F32(269.025) * (np.sqrt(s) * spare[i]) - F32(14.025)
            t[i] = curve if light > F32(0.0031308) else light * F32(3294.6)


@kernel
def _add_moments(m, x, sums):
    """Add count, sums and products of a block; shifted, so that float32 loses nothing."""
    a, b, c = x[0], x[1], x[2]
    a0, b0, c0 = a[0], b[0], c[0]
    sa = sb = sc = saa = sab = sac = sbb = sbc = scc = F32(0)
    for i in range(m):
        p, q, r = a[i] - a0, b[i] - b0, c[i] - c0
        sa += p
        sb += q
        sc += r
        saa += p * p
        sab += p * q
        sac += p * r
        sbb += q * q
        sbc += q * r
        scc += r * r
    # in float64 from here on
    A, B, C, da, db, dc = float(a0), float(b0), float(c0), float(sa), float(sb), float(sc)
    sums[0] += m
    sums[1] += da + m * A
    sums[2] += db + m * B
    sums[3] += dc + m * C
    sums[4] += saa + 2 * A * da + m * A * A
    sums[5] += sab + A * db + B * da + m * A * B
    sums[6] += sac + A * dc + C * da + m * A * C
    sums[7] += sbb + 2 * B * db + m * B * B
    sums[8] += sbc + B * dc + C * db + m * B * C
    sums[9] += scc + 2 * C * dc + m * C * C


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
        _load(flat, step, start, m, F32(0), raw)
        if by_light:
            _to_linear(m, raw, x)
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
        _load(flat, step, start, m, F32(1), raw)
        _to_density(m, raw, x)
        _add_moments(m, x, sums)
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
        _load(flat, step, start, m, F32(1), raw)
        _to_density(m, raw, x)
        _affine(m, x, frame, move)
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
        _load(flat, step, start, m, F32(1), raw)
        _to_density(m, raw, x)
        _affine(m, x, unmix, move)
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
        _load(flat, step, start, m, F32(1), raw)
        _to_density(m, raw, x)
        if far > near:
            a, b, c = x[0], x[1], x[2]
            for i in range(m):
                depth[i] = (a[i] + b[i] + c[i]) * THIRD
        _affine(m, x, matrix, move)
        _from_density(m, x, power)
        if far > near:
            _fade(m, x, raw, F32(1), depth, near, far)
        _store(out, step, flat, start, m, x)


@kernel
def lab_moments(flat, step, n):
    """Return count, sums and products of f(X), f(Y), f(Z), in which CIELAB is linear."""
    sums = np.zeros(10)
    raw, x = np.empty((3, BLOCK), F32), np.empty((3, BLOCK), F32)
    spare = np.empty(BLOCK, F32)
    for start in range(0, n, BLOCK):
        m = min(BLOCK, n - start)
        _load(flat, step, start, m, F32(0), raw)
        _to_linear(m, raw, x)
        _affine(m, x, TO_XYZ, STILL)
        _to_f(m, x, spare)
        _add_moments(m, x, sums)
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
        _load(flat, step, start, m, F32(0), raw)
        _to_linear(m, raw, x)
        _affine(m, x, TO_XYZ, STILL)
        _to_f(m, x, spare)
        if far > near:
            y = x[1]
            for i in range(m):
                depth[i] = F32(1) - y[i]
        _affine(m, x, matrix, move)
        _from_f(m, x)
        _affine(m, x, TO_RGB, STILL)
        _from_linear(m, x, spare)
        if far > near:
            _fade(m, x, raw, F32(0), depth, near, far)
        _store(out, step, flat, start, m, x)


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
