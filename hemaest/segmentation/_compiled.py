"""The loops over pixels of the colour models: numpy needs several passes for each of them."""

import numpy as np

from hemaest._numba import kernel


@kernel
def assign(points, centres, member):
    """Write the index of the nearest centre of each point."""
    for i in range(len(points)):
        least = np.inf
        for j in range(len(centres)):
            away = 0.0
            for c in range(points.shape[1]):
                step = points[i, c] - centres[j, c]
                away += step * step
            if away < least:
                least = away
                member[i] = j


@kernel
def refine(points, centres, rounds, still):
    """Move centres to the means of their points, until none moves further than ``still``."""
    member = np.zeros(len(points), np.int32)
    for _ in range(rounds):
        assign(points, centres, member)
        total = np.zeros(centres.shape)
        count = np.zeros(len(centres))
        for i in range(len(points)):
            count[member[i]] += 1
            for c in range(points.shape[1]):
                total[member[i], c] += points[i, c]
        moved = 0.0
        for j in range(len(centres)):
            if count[j] > 0:
                for c in range(points.shape[1]):
                    mean = total[j, c] / count[j]
                    moved = max(moved, abs(mean - centres[j, c]))
                    centres[j, c] = mean
        if moved < still:
            break


@kernel
def log_densities(points, means, whitening, offsets, out):
    """Write the log of a sum of Gaussians: -|W (x - mean)|^2 / 2 + offset is the log of each."""
    n_columns = points.shape[1]
    logs = np.empty(len(means))
    for i in range(len(points)):
        top = -np.inf
        for j in range(len(means)):
            square = 0.0
            for row in range(n_columns):
                z = 0.0
                for c in range(row + 1):  # the inverse of a Cholesky factor is a lower triangle
                    z += whitening[j, row, c] * (points[i, c] - means[j, c])
                square += z * z
            logs[j] = offsets[j] - 0.5 * square
            top = max(top, logs[j])
        total = 0.0
        for j in range(len(means)):
            total += np.exp(logs[j] - top)
        out[i] = top + np.log(total)
