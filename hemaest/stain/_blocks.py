"""Blocks of pixels in numba: three planes of float32 that stay in the first cache."""

import numpy as np

from hemaest._numba import kernel

BLOCK = 1024
F32 = np.float32
I32 = np.int32
U8 = np.uint8
HALF = F32(0.5)


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
