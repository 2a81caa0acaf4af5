"""Compiled painters: they add dye to a float canvas of shape (H, W, 4).

The four dyes are nucleus (violet, DNA), azure (blue, RNA), eosin (pink) and red cell
(hemoglobin); a stain style turns them into color later. Positions are in pixels, sizes in
micrometers. Every texture is a hash of the place and a seed, so an object looks the same in
whichever tile it is drawn. numpy would need a full-size temporary for each of some forty terms.
"""

import math

import numpy as np

from hemaest._numba import kernel

N_DYES = 4
OUTLINE = 128  # angles in an outline table


@kernel(inline=True)
def _hash(ix, iy, seed):
    h = np.uint32(ix) * np.uint32(374761393) + np.uint32(iy) * np.uint32(668265263)
    h = np.uint32(h + np.uint32(seed) * np.uint32(2246822519))
    h = np.uint32((h ^ (h >> np.uint32(13))) * np.uint32(1274126177))
    h = np.uint32(h ^ (h >> np.uint32(16)))
    return np.float32(h & np.uint32(0xFFFF)) * np.float32(1 / 32767.5) - np.float32(1.0)


@kernel(inline=True)
def value_noise(x, y, seed):
    """Smooth noise in [-1, 1] with features one unit wide."""
    fx = math.floor(x)
    fy = math.floor(y)
    ix = np.int32(fx)
    iy = np.int32(fy)
    tx = np.float32(x - fx)
    ty = np.float32(y - fy)
    tx = tx * tx * (np.float32(3) - np.float32(2) * tx)
    ty = ty * ty * (np.float32(3) - np.float32(2) * ty)
    a = _hash(ix, iy, seed)
    b = _hash(ix + 1, iy, seed)
    c = _hash(ix, iy + 1, seed)
    d = _hash(ix + 1, iy + 1, seed)
    top = a + (b - a) * tx
    return top + (c + (d - c) * tx - top) * ty


@kernel(inline=True)
def fractal_noise(x, y, seed):
    """Two turned octaves of value noise: no lattice shows."""
    first = value_noise(x, y, seed)
    second = value_noise(1.7 * x - 1.2 * y + 9.1, 1.2 * x + 1.7 * y - 4.3, seed + 1)
    return np.float32(0.68) * first + np.float32(0.42) * second


@kernel(inline=True)
def _smooth(t):
    t = min(max(t, 0.0), 1.0)
    return t * t * (3.0 - 2.0 * t)


@kernel(inline=True)
def _outline_radius(outline, dx, dy):
    t = (math.atan2(dy, dx) / (2 * math.pi) + 1.0) * OUTLINE
    i = int(t)
    f = t - i
    return outline[i % OUTLINE] * (1.0 - f) + outline[(i + 1) % OUTLINE] * f


@kernel
def nucleus_depth(x, y, spine):
    """Return how deep (x, y) lies in a union of tapered capsules; negative outside."""
    depth = -1e3
    for k in range(spine.shape[0] - 1):
        if spine[k, 3] < 0.5:  # the pen is lifted: no bridge to the next node
            continue
        ax = spine[k, 0]
        ay = spine[k, 1]
        bx = spine[k + 1, 0] - ax
        by = spine[k + 1, 1] - ay
        t = ((x - ax) * bx + (y - ay) * by) / (bx * bx + by * by + 1e-9)
        t = min(max(t, 0.0), 1.0)
        gap = math.sqrt((x - ax - t * bx) ** 2 + (y - ay - t * by) ** 2)
        this = spine[k, 2] + t * (spine[k + 1, 2] - spine[k, 2]) - gap
        blend = max(0.25 - abs(this - depth), 0.0) / 0.25  # melts the joints together
        depth = max(this, depth) + 0.0625 * blend * blend
    return depth


@kernel
def spine_area(spine, step):
    """Area and centroid of a nucleus by counting on a grid of the given step."""
    x0 = 1e9
    x1 = -1e9
    y0 = 1e9
    y1 = -1e9
    for k in range(spine.shape[0]):
        x0 = min(x0, spine[k, 0] - spine[k, 2])
        x1 = max(x1, spine[k, 0] + spine[k, 2])
        y0 = min(y0, spine[k, 1] - spine[k, 2])
        y1 = max(y1, spine[k, 1] + spine[k, 2])
    count = 0
    sx = 0.0
    sy = 0.0
    for j in range(int((y1 - y0) / step) + 1):
        for i in range(int((x1 - x0) / step) + 1):
            x = x0 + i * step
            y = y0 + j * step
            if nucleus_depth(x, y, spine) > 0:
                count += 1
                sx += x
                sy += y
    count = max(count, 1)
    return count * step * step, sx / count, sy / count


@kernel
def paint_leukocyte(canvas, cell_map, codes, cx, cy, scale, outline, spine, nucleoli, look, seed):
    """Paint one leukocyte over what is there and write its cytoplasm and nucleus to the map.

    ``codes`` are the values of both in the map, 0 to leave the map alone.

    ``look`` holds, in this order: nucleus density, chromatin contrast, chromatin grain (um),
    membrane, cytoplasm nucleus-dye, azure, eosin, texture, texture grain (um), rim, hof
    strength, hof x, hof y, hof radius (um), nuclear roughness (um), softness (um), hemoglobin,
    how pale the sap between clumps of chromatin is, and where it lies (0 lines, 0.6 holes).
    """
    height, width = cell_map.shape
    reach = 0.0
    for k in range(OUTLINE):
        reach = max(reach, outline[k])
    reach = (reach + 0.6) * scale
    density, contrast, grain, membrane = look[0], look[1], look[2], look[3]
    texture, texture_grain, rim = look[7], look[8], look[9]
    hof, hof_x, hof_y, hof_r = look[10], look[11], look[12], look[13]
    rough, soft, sap, level = look[14], look[15], look[17], look[18]
    edge = 1.0 / max(soft, 1.0 / scale)
    for row in range(max(int(cy - reach), 0), min(int(cy + reach) + 2, height)):
        y = (row - cy) / scale
        for col in range(max(int(cx - reach), 0), min(int(cx + reach) + 2, width)):
            x = (col - cx) / scale
            cell_depth = _outline_radius(outline, x, y) - math.sqrt(x * x + y * y)
            cover = _smooth(cell_depth * edge + 0.5)
            if cover <= 0.0:
                continue
            wobble = rough * value_noise(x * 0.9, y * 0.9, seed + 11)
            depth = min(nucleus_depth(x, y, spine) + wobble, cell_depth - 0.12)
            inside = _smooth(depth * edge + 0.5)
            if codes[0] > 0 and cell_depth > 0:
                cell_map[row, col] = codes[1] if depth > 0 else codes[0]
            # cytoplasm: a tint with texture, a dark rim and a pale place beside the nucleus
            tone = 1.0 + texture * fractal_noise(x / texture_grain, y / texture_grain, seed + 3)
            tone += rim * math.exp(-max(cell_depth, 0.0) / 0.45)
            pale = ((x - hof_x) ** 2 + (y - hof_y) ** 2) / (hof_r * hof_r + 1e-6)
            tone *= 1.0 - hof * math.exp(-pale)
            tone = max(tone, 0.0)
            n = look[4] * tone
            a = look[5] * tone
            e = look[6] * tone
            h = look[16] * (0.5 + 0.5 * tone)
            if inside > 0.0:
                clump = fractal_noise(x / grain, y / grain, seed + 7)
                seam = (clump - level) / 0.16
                clump = 2.0 * _smooth(0.5 + 0.9 * clump) - 1.0
                chroma = density * (1.0 + contrast * clump)
                if sap > 0.0:
                    chroma *= 1.0 - sap * math.exp(-seam * seam)
                chroma *= 1.0 + membrane * math.exp(-max(depth, 0.0) / 0.3)
                na = 0.0
                for k in range(nucleoli.shape[0]):
                    dx = x - nucleoli[k, 0]
                    dy = y - nucleoli[k, 1]
                    hole = _smooth((nucleoli[k, 2] - math.sqrt(dx * dx + dy * dy)) / 0.35 + 0.5)
                    chroma *= 1.0 - nucleoli[k, 3] * hole
                    na += 0.25 * hole
                n = n * (1.0 - inside) + chroma * inside
                a = a * (1.0 - inside) + na * inside
                e = e * (1.0 - inside)
                h = h * (1.0 - inside)
            keep = 1.0 - cover
            canvas[row, col, 0] = canvas[row, col, 0] * keep + n * cover
            canvas[row, col, 1] = canvas[row, col, 1] * keep + a * cover
            canvas[row, col, 2] = canvas[row, col, 2] * keep + e * cover
            canvas[row, col, 3] = canvas[row, col, 3] * keep + h * cover


@kernel
def scatter(candidates, outline, spine, margin, over, limit):
    """Keep up to ``limit`` of the candidates (x, y, radius) that lie in the cell."""
    kept = 0
    for k in range(candidates.shape[0]):
        x = candidates[k, 0]
        y = candidates[k, 1]
        inside = _outline_radius(outline, x, y) - math.sqrt(x * x + y * y)
        if inside < margin * candidates[k, 2]:
            continue
        if candidates[k, 3] > over and nucleus_depth(x, y, spine) > -0.5 * candidates[k, 2]:
            continue
        candidates[kept, 0] = x
        candidates[kept, 1] = y
        candidates[kept, 2] = candidates[k, 2]
        kept += 1
        if kept == limit:
            break
    return kept


@kernel
def paint_grains(canvas, cx, cy, scale, grains, dyes, cover, hollow, soft):
    """Paint small discs (x, y, radius in um); a hollow one is paler in its center."""
    height, width, _ = canvas.shape
    edge = 1.0 / max(soft, 1.0 / scale)
    for k in range(grains.shape[0]):
        gx = cx + grains[k, 0] * scale
        gy = cy + grains[k, 1] * scale
        radius = grains[k, 2]
        reach = (radius + 0.6 / edge) * scale
        for row in range(max(int(gy - reach), 0), min(int(gy + reach) + 2, height)):
            for col in range(max(int(gx - reach), 0), min(int(gx + reach) + 2, width)):
                r = math.sqrt((col - gx) ** 2 + (row - gy) ** 2) / scale
                alpha = cover * _smooth((radius - r) * edge + 0.5)
                if alpha <= 0.0:
                    continue
                tone = 1.0 - hollow * max(1.0 - r / (radius + 1e-6), 0.0)
                for d in range(N_DYES):
                    now = canvas[row, col, d]
                    canvas[row, col, d] = now + alpha * (dyes[d] * tone - now)


@kernel
def paint_red_cells(canvas, scale, cells, left=0.0, top=0.0, numbers=None, names=None):
    """Add red cells; they are clear, so where two overlap both are seen.

    The name (a number) of the cell on top is written into the map ``numbers``, if given.

    Rows of ``cells``: x and y (px), radius (um), stretch, angle, pallor, width of the pallor,
    strength, ring, crenation, number of spikes, a number that makes its outline its own, waviness
    of the outline, tail (of a teardrop), bright spot. The canvas begins at pixel (left, top) of
    the whole image.
    """
    height, width, _ = canvas.shape
    for k in range(cells.shape[0]):
        x0, y0, radius, stretch = cells[k, 0] - left, cells[k, 1] - top, cells[k, 2], cells[k, 3]
        ca = math.cos(cells[k, 4])
        sa = math.sin(cells[k, 4])
        pallor, pallor_width, strength = cells[k, 5], cells[k, 6], cells[k, 7]
        ring, crenation, spikes, own = cells[k, 8], cells[k, 9], cells[k, 10], cells[k, 11]
        waves, tail, bright = cells[k, 12], cells[k, 13], cells[k, 14]
        farthest = radius * (1.05 + waves + crenation + tail)
        reach = farthest * stretch * scale + 1
        for row in range(max(int(y0 - reach), 0), min(int(y0 + reach) + 2, height)):
            for col in range(max(int(x0 - reach), 0), min(int(x0 + reach) + 2, width)):
                dx = (col - x0) / scale
                dy = (row - y0) / scale
                u = (ca * dx + sa * dy) / stretch
                v = (ca * dy - sa * dx) * stretch
                r2 = u * u + v * v
                if r2 > farthest * farthest:
                    continue
                r = math.sqrt(r2)
                wave = value_noise(2.0 * u / (r + 0.05) + own, 2.0 * v / (r + 0.05), 1)
                rim = radius * (1.0 + waves * wave)
                if crenation > 0.0 or tail > 0.0:
                    angle = math.atan2(v, u)
                    rim *= 1.0 + crenation * math.cos(spikes * angle + 3.0 * wave)
                    rim *= 1.0 + tail * math.exp(-((angle / 0.3) ** 2))
                depth = rim - r
                alpha = _smooth(depth * min(scale, 3.5) + 0.5)
                if alpha <= 0.0:
                    continue
                if numbers is not None and depth > 0.0:
                    numbers[row, col] = names[k]
                s = r / (pallor_width * rim)
                body = 1.0 - pallor * math.exp(-(s**4))
                body += ring * math.exp(-((depth - 0.2) ** 2) / 0.06)
                if bright > 0.0:  # a lens of dried serum: brighter than glass, in a dark line
                    gap = math.sqrt((dx - 0.3 * rim) ** 2 + (dy + 0.2 * rim) ** 2) - 0.22 * rim
                    body += bright * (math.exp(-((gap / 0.25) ** 2)) - 1.2 * _smooth(-gap / 0.4))
                here = strength * alpha * body
                there = canvas[row, col, 3]
                # two discs pressed together are thinner than their sum
                canvas[row, col, 3] = max(here, there) + 0.3 * min(here, there)


@kernel
def paint_sheet(canvas, scale, cells, look, left=0.0, top=0.0, numbers=None, names=None):
    """Add red cells pressed flat against one another: each ends where a neighbor is as near.

    ``look`` holds how many radii a cell reaches where none is near, how much darker the seams are
    (below 0: lighter), their width (um), and the share of seams that have come apart. The other
    arguments are those of :func:`paint_red_cells`; stretch, spikes and tails do not matter here.
    """
    height, width, _ = canvas.shape
    far = np.float32(1e9)
    first = np.full((height, width), far, np.float32)
    second = np.full((height, width), far, np.float32)
    owner = np.full((height, width), -1, np.int32)
    other = np.full((height, width), -1, np.int32)
    for k in range(cells.shape[0]):
        x0, y0 = cells[k, 0] - left, cells[k, 1] - top
        # far enough that whoever borders a cell is known where the cell ends
        reach = 2.2 * look[0] * cells[k, 2] * scale
        for row in range(max(int(y0 - reach), 0), min(int(y0 + reach) + 2, height)):
            for col in range(max(int(x0 - reach), 0), min(int(x0 + reach) + 2, width)):
                gap = (col - x0) ** 2 + (row - y0) ** 2
                if gap < first[row, col]:
                    second[row, col] = first[row, col]
                    other[row, col] = owner[row, col]
                    first[row, col] = gap
                    owner[row, col] = k
                elif gap < second[row, col]:
                    second[row, col] = gap
                    other[row, col] = k
    for row in range(height):
        for col in range(width):
            k = owner[row, col]
            if k < 0:
                continue
            radius, own = cells[k, 2], cells[k, 11]
            dx = (col - cells[k, 0] + left) / scale
            dy = (row - cells[k, 1] + top) / scale
            r = math.sqrt(dx * dx + dy * dy)
            wave = value_noise(2.0 * dx / (r + 0.05) + own, 2.0 * dy / (r + 0.05), 1)
            depth = look[0] * radius * (1.0 + cells[k, 12] * wave) - r
            j = other[row, col]
            seam = 1e3
            if j >= 0:
                apart = math.sqrt(
                    (cells[k, 0] - cells[j, 0]) ** 2 + (cells[k, 1] - cells[j, 1]) ** 2
                )
                seam = (second[row, col] - first[row, col]) / (2.0 * apart * scale + 1e-6)
                seam += 0.12 * wave
                pair = _hash(np.int32(1000 * (own + cells[j, 11])), 0, 7)
                if 0.5 * (pair + 1.0) < look[3]:
                    depth = min(depth, seam - look[2])
            alpha = _smooth(depth * min(scale, 3.5) + 0.5)
            if alpha <= 0.0:
                continue
            if numbers is not None and depth > 0.0:
                numbers[row, col] = names[k]
            s = r / (cells[k, 6] * radius)
            body = 1.0 - cells[k, 5] * math.exp(-(s**4))
            body += cells[k, 8] * math.exp(-((depth - 0.2) ** 2) / 0.06)
            body *= 1.0 + look[1] * math.exp(-((seam / look[2]) ** 2))
            here = cells[k, 7] * alpha * max(body, 0.0)
            there = canvas[row, col, 3]
            canvas[row, col, 3] = max(here, there) + 0.3 * min(here, there)


@kernel
def paint_veil(canvas, scale, amount, left, top, seed):
    """Add the faint mottled tint of dried plasma, in eosin."""
    height, width, _ = canvas.shape
    for row in range(height):
        y = (row + top) / (7.0 * scale)
        for col in range(width):
            x = (col + left) / (7.0 * scale)
            canvas[row, col, 2] += amount * (0.5 + 0.5 * value_noise(x, y, seed))


@kernel
def settle(candidates, blockers, limit):
    """Throw darts: keep candidates (x, y, radius, spacing) that stay clear of those lying.

    Spacing 1 lets discs touch, less lets them overlap. Blockers are rows of (x, y, radius,
    share of the dart's own radius to keep clear). Kept rows move to the front; a grid of
    buckets keeps the work linear.
    """
    biggest = 1.0
    x0 = 1e9
    y0 = 1e9
    x1 = -1e9
    y1 = -1e9
    for k in range(candidates.shape[0]):
        biggest = max(biggest, candidates[k, 2])
        x0 = min(x0, candidates[k, 0])
        y0 = min(y0, candidates[k, 1])
        x1 = max(x1, candidates[k, 0])
        y1 = max(y1, candidates[k, 1])
    bucket = 2.0 * biggest
    wide = int((x1 - x0) / bucket) + 3
    tall = int((y1 - y0) / bucket) + 3
    first = np.full(wide * tall, -1, np.int32)
    after = np.full(candidates.shape[0], -1, np.int32)
    near = _blockers_by_bucket(blockers, x0, y0, bucket, wide, tall, biggest)
    kept = 0
    for k in range(candidates.shape[0]):
        x = candidates[k, 0]
        y = candidates[k, 1]
        r = candidates[k, 2]
        spacing = candidates[k, 3]
        column = int((x - x0) / bucket) + 1
        row = int((y - y0) / bucket) + 1
        free = True
        if near[row * wide + column]:
            for b in range(blockers.shape[0]):
                gap = blockers[b, 2] + blockers[b, 3] * r
                if (x - blockers[b, 0]) ** 2 + (y - blockers[b, 1]) ** 2 < gap * gap:
                    free = False
                    break
        for step in range(9):
            if not free:
                break
            j = first[(row + step // 3 - 1) * wide + column + step % 3 - 1]
            while j >= 0:
                gap = spacing * (r + candidates[j, 2])
                if (x - candidates[j, 0]) ** 2 + (y - candidates[j, 1]) ** 2 < gap * gap:
                    free = False
                    break
                j = after[j]
        if free:
            candidates[kept] = candidates[k]
            after[kept] = first[row * wide + column]
            first[row * wide + column] = kept
            kept += 1
            if kept == limit:
                break
    return kept


@kernel
def _blockers_by_bucket(blockers, x0, y0, bucket, wide, tall, biggest):
    """Mark the buckets that some blocker reaches."""
    near = np.zeros(wide * tall, np.bool_)
    for b in range(blockers.shape[0]):
        reach = blockers[b, 2] + blockers[b, 3] * biggest
        left = max(int((blockers[b, 0] - reach - x0) / bucket), 0)
        top = max(int((blockers[b, 1] - reach - y0) / bucket), 0)
        right = min(int((blockers[b, 0] + reach - x0) / bucket) + 2, wide - 1)
        bottom = min(int((blockers[b, 1] + reach - y0) / bucket) + 2, tall - 1)
        for row in range(top, bottom + 1):
            for column in range(left, right + 1):
                near[row * wide + column] = True
    return near
