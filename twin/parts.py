"""What the kernels of a run work on: instances on their servers, tenants, what is asked, the plant with its meters, caps."""

from typing import NamedTuple

import numpy as np
from numpy.typing import NDArray

from twin.arrivals import Block
from twin.batching.book import Book
from twin.batching.route import Router
from twin.batching.state import Instances, Log, Records
from twin.plant.units import State, Supply, Units

Floats = NDArray[np.float64]
Ints = NDArray[np.int64]
Bools = NDArray[np.bool_]

STRIDE_S, SHORT_S = 20, 5
"""instances are served so many seconds at once where none of their GPUs can reach its slowdown within them: as long as all
are so cool; else for a short while, in which few can be too hot. It saves time: an instance's memory is fetched less often"""


class Serving(NamedTuple):
    """I instances and how they sit on the servers."""

    s: Instances
    points: Records
    point: Ints
    """[I] which of them each instance runs"""
    book: Book
    log: Log
    router: Router
    high: Bools
    """[E] priority of the endpoint's requests"""
    server: Ints
    """[I]"""
    first_gpu: Ints
    gpus: Ints
    present: Bools
    """[I] loaded and drawing power; False = its machine has left"""
    clock_mhz: Floats
    """[I] slowest of its GPUs, in force"""
    power: Floats
    """[I] busy power at that clock, relative"""
    watt: Floats
    """[STRIDE_S, I] scratch: nominal W of each of its GPUs, by the second"""
    spread: Floats
    """[STRIDE_S, I] scratch: variance (W^2) within the second of all its GPUs together"""
    busy: Floats
    """[I] share of the last step with an iteration in progress"""
    hot: Bools
    """[S] scratch: servers whose instances are served step by step"""
    work: Records
    """[STRIDE_S] WORK: scratch, of one instance"""
    pick: NDArray[np.int32]
    """[4, N] scratch of the router"""
    start: Ints
    """[I + 1] scratch"""


class Tenants(NamedTuple):
    """What is on the servers: S servers, G GPUs."""

    endpoint: Ints
    """[S] -1 = none"""
    customer: Ints
    """[S] -1 = none"""
    idle_w: Floats
    """[S] of a GPU that nobody uses"""
    loaded_w: Floats
    """[S] level 0 of an opaque tenant"""
    clock_floor: Floats
    """[S] busy power at clock f = floor + (1 - floor) (f / highest)^exponent"""
    clock_exponent: Floats
    brake_mhz: Floats
    """[S]"""
    iaas_clock_mhz: Floats
    """[S, G] for which `iaas_power` holds"""
    iaas_power: Floats
    """[S, G] busy power at that clock, relative"""


class Asked(NamedTuple):
    """What is asked in one block of a minute."""

    block: Block
    cursor: Ints
    """[E] the next request of each endpoint"""
    start_s: float
    seconds: float
    level: Floats
    """[2, S] of opaque tenants at the block's beginning and end; linear between"""
    outside_c: Floats
    """[2] the same"""


class Site(NamedTuple):
    """The plant and its meters."""

    u: Units
    s: State
    supply: Supply
    tenants: Tenants
    nominal_w: Floats
    """[S, G] scratch"""
    held: Ints
    """[1] GPUs in slowdown or shut down when clocks were set"""
    row_w: Floats
    """[M, R] mean power of each of the last M seconds, at second % M"""
    row_sd_w: Floats
    """[R] spread within the last second, by prompts and decode steps that take turns"""
    row_nominal_w: Floats
    """[STRIDE_S, R] scratch: nominal GPU power of the rows by the second"""


class Caps(NamedTuple):
    """Clock caps in force."""

    mhz: Floats
    """[S, G] inf = none"""
    for_heat: Bools
    """[S]"""
    any: bool
    """whether there is one"""
