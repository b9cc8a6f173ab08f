"""Least squares on relative errors, as all tables of times are fitted here."""

import numpy as np
from numpy.typing import NDArray
from scipy.optimize import nnls

Floats = NDArray[np.float64]


def relative_least_squares(terms: Floats, measured: Floats) -> Floats:
    """Return the coefficients >= 0 [k] that minimise the squared relative errors of terms [n, k] @ coefficients."""
    rows = terms / measured[:, None]
    scale = np.abs(rows).max(axis=0)
    scale[scale == 0] = 1.0
    coefficients, _ = nnls(rows / scale, np.ones(len(measured)))
    return np.asarray(coefficients / scale, dtype=np.float64)


def mape(predicted: Floats, measured: Floats) -> float:
    """Return the mean absolute relative error in %."""
    return float(100.0 * np.mean(np.abs(predicted / measured - 1.0)))
