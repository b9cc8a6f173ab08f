"""What instruments show of the truth: whole degrees, each with a bias of its own."""

import numpy as np
from numpy.typing import NDArray

Floats = NDArray[np.float64]


def degrees(true_c: Floats, bias_c: Floats) -> Floats:
    """Readings of sensors with a resolution of 1 degC."""
    shown: Floats = np.rint(true_c + bias_c)
    return shown
