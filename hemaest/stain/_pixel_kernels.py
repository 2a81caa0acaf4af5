"""Arithmetic on one value, and blocks of values, in numba; the loops of ``_kernels`` call it.

A loop that calls these has no table look-up and no call of ``log``, ``exp`` or ``pow``, so LLVM
turns the whole of it into vector code: a logarithm is the exponent of the float plus a polynomial
of its fraction, and so on. The errors stated are a few hundredths of a level in the image.
"""

from typing import Any

import numpy as np

from hemaest._color import LINEAR
from hemaest._numba import kernel

F32 = np.float32
I32 = np.int32
U8 = np.uint8
HALF = F32(0.5)
BLOCK = 1024  # pixels: three planes of float32 stay in the first cache

FRACTION = I32(0x007FFFFF)
EXPONENT = I32(0x7F800000)
ONE = I32(0x3F800000)
OCTAVE = 2.0**23  # what the bits of a float grow by where the float doubles


def _polynomial(values: Any, x: Any, degree: int, weights: Any = None) -> Any:
    """Return the ascending coefficients of a near-best fit."""
    fit = np.polynomial.Chebyshev.fit(x, values, degree, w=weights)
    return fit.convert(kind=np.polynomial.Polynomial).coef


_fraction = 1.5 - np.cos(np.linspace(0, np.pi, 4001)) / 2
_log = _polynomial(np.log2(_fraction) - _fraction, _fraction, 5)
_exp = _polynomial(_fraction, 1 + np.log2(_fraction), 3)
_light = np.arange(11, 256)
# the error of linear light is smaller where a level is a smaller step of light
_linear = _polynomial(LINEAR[_light], _light, 6, (_light / 255 + 0.055) ** -0.7)
_off = 0.103 * (2 * _fraction - 3)
_root = _polynomial((1 - _off) ** (-2 / 3), _off, 4)

# -log(x / 256) is BITS * (bits of x) plus a polynomial of the fraction: within 2e-5
BITS = F32(-np.log(2) / OCTAVE)
D0, D1, D2, D3, D4, D5 = (F32(v) for v in np.log(2) * (np.r_[134, 0, 0, 0, 0, 0] - _log))
# the same as the bits of x ** (5 / 12) * 269.025, the curve of sRGB
CURVE = F32(5 / 12)
_curve = _polynomial(np.log2(_fraction) - _fraction, _fraction, 4)
G1, G2, G3, G4 = (F32(v) for v in OCTAVE * 5 / 12 * _curve[1:])
G0 = F32(OCTAVE * (127 + np.log2(269.025) + 5 / 12 * (_curve[0] - 126)))
# 2 ** (fraction - 1): within 2e-4 of itself
E0, E1, E2, E3 = (F32(v) for v in _exp)
# a density of 0 and one unit of it, in the bits of 256 exp(-density)
WHITE_BITS, UNIT_BITS = F32(135 * OCTAVE), F32(-OCTAVE / np.log(2))
L0, L1, L2, L3, L4, L5, L6 = (F32(v) for v in _linear)
# bits from which a third is taken off: x ** (-1 / 3) within 4 %, then r = 1 - x y**3 gives the rest
GUESS = I32(0x54A20000)
THIRD = F32(1 / 3)
R0, R1, R2, R3, R4 = (F32(v) for v in _root)
# the line that CIELAB puts in place of the cube (root) near black
JOINT = F32(6 / 29)
SLOPE = F32((29 / 6) ** 2 / 3)
FOOT = F32(4 / 29)


@kernel
def density(x):
    """Return log(256 / x)."""
    bits = F32(x).view(I32)
    m = I32((bits & FRACTION) | ONE).view(F32)
    return ((((D5 * m + D4) * m + D3) * m + D2) * m + D1) * m + D0 + BITS * F32(bits)


@kernel
def from_bits(y):
    """Return the float whose bits, were they a straight line between powers of 2, are y."""
    bits = I32(y)
    m = I32((bits & FRACTION) | ONE).view(F32)
    return (((E3 * m + E2) * m + E1) * m + E0) * I32(bits & EXPONENT).view(F32)


@kernel
def level(y):
    """Return 256 exp(-density) - 1 from -1 to 255, the density given in bits (WHITE_BITS)."""
    return from_bits(min(max(y, F32(0)), WHITE_BITS)) - F32(1)


@kernel
def linear(v):
    """Return the linear light of an sRGB value: within 3e-5, and within 0.03 levels."""
    p = (((((L6 * v + L5) * v + L4) * v + L3) * v + L2) * v + L1) * v + L0
    line = v * F32(1 / 255 / 12.92)
    return p if v > F32(10.5) else line


@kernel
def from_linear(t):
    """Return the sRGB value of linear light, from 0 to 255."""
    t = min(max(t, F32(0)), F32(1))
    bits = F32(t).view(I32)
    m = I32((bits & FRACTION) | ONE).view(F32)
    y = (((G4 * m + G3) * m + G2) * m + G1) * m + G0 + CURVE * F32(bits)
    curve, line = from_bits(y) - F32(14.025), t * F32(255 * 12.92)
    return curve if t > F32(0.0031308) else line


@kernel
def compress(t):
    """Return the f of CIELAB: the cube root within 1e-6 of itself, a line near black."""
    y = I32(GUESS - I32(F32(F32(t).view(I32)) * THIRD)).view(F32)
    squared = t * y * y
    r = F32(1) - squared * y
    root = squared * ((((R4 * r + R3) * r + R2) * r + R1) * r + R0)
    line = t * SLOPE + FOOT
    return root if t > JOINT * JOINT * JOINT else line


@kernel
def expand(f):
    """Return what ``compress`` takes to f."""
    cube, line = f * f * f, (f - FOOT) * (F32(1) / SLOPE)
    return cube if f > JOINT else line


@kernel
def mix(old, new, weight):
    return old + weight * (new - old)


@kernel
def load(flat, step, start, m, bias, x):
    """Read a block as floats plus bias; constant steps let LLVM read whole vectors."""
    a, b, c = x[0], x[1], x[2]
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
    """Round a block of floats, none under -1, into bytes; a fourth channel is copied."""
    a, b, c = x[0], x[1], x[2]
    if step == 3:
        s = out[3 * start : 3 * (start + m)]
        for i in range(m):
            s[3 * i] = U8(I32(a[i] + HALF))
            s[3 * i + 1] = U8(I32(b[i] + HALF))
            s[3 * i + 2] = U8(I32(c[i] + HALF))
    else:
        s = out[4 * start : 4 * (start + m)]
        old = flat[4 * start : 4 * (start + m)]
        for i in range(m):
            s[4 * i] = U8(I32(a[i] + HALF))
            s[4 * i + 1] = U8(I32(b[i] + HALF))
            s[4 * i + 2] = U8(I32(c[i] + HALF))
            s[4 * i + 3] = old[4 * i + 3]


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
