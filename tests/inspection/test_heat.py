"""Where a model looks, without a network: the probability that falls where a part is covered."""

import numpy as np
import pytest

from hemaest.inspection import occlusion


class Red:
    """Says "red" by the share of red pixels in the upper left quarter."""

    classes_ = np.array(["other", "red"])

    def predict_proba(self, X):
        red = np.array([(x[:20, :20, 0] > 200).mean() for x in X])
        return np.column_stack([1 - red, red])


def test_heat_lies_where_the_model_looks():
    image = np.zeros((40, 40, 3), np.uint8)
    image[:20, :20, 0] = 255
    image[25:, 25:, 0] = 255
    image[[0, -1]] = image[:, [0, -1]] = 0  # the covers have the color of the border
    fall = occlusion(Red(), image, "red")
    assert fall.shape == (40, 40)
    assert fall[5:15, 5:15].min() > 0.1 and fall[30:, 30:].max() == 0
    assert occlusion(Red(), image, "other").max() == 0
    with pytest.raises(ValueError, match="blast"):
        occlusion(Red(), image, "blast")
