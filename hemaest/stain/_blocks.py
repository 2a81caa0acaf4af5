"""Arithmetic on blocks of pixels in numba: densities, linear light, CIELAB, moments.

A block is three rows of float32 that stay in the first cache; short loops over it are what LLVM
turns into vector code, so there is no table look-up and no call of ``log``, ``exp`` or ``pow``.
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
def load(flat, step, start, m, bias, raw):
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
def store(out, step, flat, start, m, x):
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
def affine(m, x, matrix, move):
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
def fade(m, x, raw, bias, depth, near, far):
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
def to_density(m, raw, x):
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
def from_density(m, x, power):
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
def to_linear(m, raw, x):
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
def cube_root(m, x, root):
    """Write cube roots of positive floats: one step of Halley leaves 3e-5."""
    bits, root_bits = x.view(I32), root.view(I32)
    for i in range(m):
        root_bits[i] = I32(F32(bits[i]) * THIRD) + GUESS
    for i in range(m):
        t, y = x[i], root[i]
        cube = y * y * y
        root[i] = y * (cube + t + t) / (cube + cube + t)


@kernel
def to_f(m, x, spare):
    """Replace X, Y, Z by the f of CIELAB."""
    for k in range(3):
        t = x[k]
        cube_root(m, t, spare)
        for i in range(m):
            t[i] = spare[i] if t[i] > JOINT * JOINT * JOINT else t[i] * SLOPE + FOOT


@kernel
def from_f(m, x):
    for k in range(3):
        t = x[k]
        for i in range(m):
            f = t[i]
            t[i] = f * f * f if f > JOINT else (f - FOOT) * (F32(1) / SLOPE)


@kernel
def from_linear(m, x, spare):
    """Replace linear light by sRGB values: t ** (1 / 2.4) is two square roots and a cube root."""
    for k in range(3):
        t = x[k]
        for i in range(m):
            t[i] = np.sqrt(min(max(t[i], F32(0)), F32(1)))
        cube_root(m, t, spare)
        for i in range(m):
            s = t[i]
            light = s * s
            curve = F32(269.025) * (np.sqrt(s) * spare[i]) - F32(14.025)
            t[i] = curve if light > F32(0.0031308) else light * F32(3294.6)


@kernel
def add_moments(m, x, sums):
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
