"""Where every server's cell stands on the picture's floor: rows as bands of racks, slots upwards."""

from bisect import bisect_left
from dataclasses import dataclass

import numpy as np

from twin.map import Floats, Frames

FLOOR_IN = 5.4
"""height that many rows share, until a band is as low as LOWEST_IN"""
LOWEST_IN, GAP_IN = 0.24, 0.1
CELL_HIGH_IN, RACK_WIDE_IN = 0.3, 1.7
"""a cell and a rack are at most so large"""
COLUMNS = (4, 24, 60, 120)
"""more rows than these go into one column more"""


@dataclass(frozen=True, kw_only=True)
class Floor:
    """The plan, in inches from its upper left corner, y downwards."""

    cells: Floats
    """[S, 4] x, y, width, height"""
    bands: Floats
    """[R, 4] x of the row's label, y, width, height"""
    racks: list[tuple[float, float, str]]
    """middle and name, where there is room for names"""
    label_in: float
    """room for a row's label, left of its racks"""
    label_size: float
    two_lines: bool
    cell_size: float
    """of a number in a cell; 0 = no room"""
    height_in: float


def floor(f: Frames, width_in: float) -> Floor:
    """Return the plan of the site at a width. Rows go down the first column, then down the next."""
    columns = 1 + bisect_left(COLUMNS, len(f.rows))
    down = -(-len(f.rows) // columns)
    slots = {slot: k for k, slot in enumerate(sorted(set(f.slot_of.tolist())))}
    racks: list[dict[str, int]] = [{} for _ in f.rows]
    for r, name in zip(f.row_of.tolist(), f.rack_of, strict=True):
        racks[r].setdefault(name, len(racks[r]))
    names_in = 0.22 if columns == 1 else 0.0
    cell_h = min(CELL_HIGH_IN, max(LOWEST_IN, FLOOR_IN / down - GAP_IN) / len(slots))
    band_h = cell_h * len(slots)
    step_y = band_h + names_in + (0.16 if columns == 1 else GAP_IN)
    column_in = (width_in - 0.35 * (columns - 1)) / columns
    label_in = 1.95 if columns == 1 else 1.75
    rack_w = min(RACK_WIDE_IN, (column_in - label_in) / max(len(of) for of in racks))
    gap = min(0.1, rack_w * 0.12)
    line = min(0.02, cell_h * 0.1)
    bands = np.zeros((len(f.rows), 4))
    for r in range(len(f.rows)):
        bands[r] = (r // down * (column_in + 0.35), r % down * step_y, column_in, band_h)
    cells = np.zeros((len(f.servers), 4))
    for s, r in enumerate(f.row_of.tolist()):
        x, y = bands[r, 0] + label_in + racks[r][f.rack_of[s]] * rack_w, bands[r, 1]
        up = slots[int(f.slot_of[s])]
        cells[s] = (x, y + (len(slots) - 1 - up) * cell_h, rack_w - gap, cell_h - line)
    named = [
        (float(bands[r, 0] + label_in + k * rack_w + (rack_w - gap) / 2), float(bands[r, 1] + band_h + 0.11), name)
        for r, of in enumerate(racks)
        for name, k in of.items()
        if names_in and rack_w > 0.55
    ]
    return Floor(
        cells=cells,
        bands=bands,
        racks=named,
        label_in=label_in,
        label_size=10.5 if columns == 1 else 8.0,
        two_lines=band_h > 0.7,
        cell_size=9.0 if cell_h > 0.2 and rack_w > 0.4 else 0.0,
        height_in=down * step_y,
    )
