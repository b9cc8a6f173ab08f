"""Learnt plant models: each server's inlet, GPU temperatures, power and airflow as functions (TAPAS eqs. 1 to 4).

`Plant` holds values only, evaluates them, and travels as JSON on the `state` topic; `forecast.plant.fit` learns them.

    inlet       a + b0 o + b1 max(0, o - 15) + b2 max(0, o - 29) + c load     o = outside degC (piecewise, degree 1)
    GPU g       a + b inlet + c P + sum_k d_k max(0, P - P_k) + e_g + f_g P    P = the server's summed GPU power; rising in P
    hottest     the highest of them, and its exact inverse
    server      a + b P + c P^2
    airflow     a + b P                                                         never below idle
    clock       s + (1 - s) (f / fmax)^e                                        share of the busy GPU power

Each law holds beyond what its unit has shown; `trust` says what is then to be doubted.
"""

import msgspec
import numpy as np
from numpy.typing import NDArray

from contracts.errors import InputError
from contracts.view import Floats

KNEES_C = (15.0, 29.0)
"""outside temperatures where the inlet's curve bends (TAPAS Fig. 3: held below 15 degC, level from about 29)"""
SHARE_FLOOR, SHARE_EXPONENT = 0.25, 1.05
"""busy power by clock, published: .25 + .75 (f / fmax)^1.05 (DynamoLLM's profile of H100, MAPE 7 to 9 %)"""
UNKNOWN = {"inlet_c": 2.0, "gpu_c": 3.0, "server_power_share": 0.05}
"""error of a law that was never learnt: TAPAS's hot server (+2 K), its spread over 3,000 GPUs, a data sheet's power [A]"""
DOUBT = {"outside_c": 0.25, "load_share": 1.0, "inlet_c": 0.1, "gpu_power_share": 5.0, "wall_share": 0.1}
"""what a unit beyond the range that was seen adds to the error: K per degC outside (half the spread of TAPAS Fig. 3's slopes),
K per whole load (its Fig. 5: 2 to 3 K in all), K per degC of inlet [A], K per TDP (.006 of .053 K/W over 3,000 GPUs, Fig. 9,
is 4 K), W per W"""


class Clocks(msgspec.Struct, frozen=True, kw_only=True):
    """Busy GPU power by clock: floor + (1 - floor) (f / fmax)^exponent."""

    floor: float = SHARE_FLOOR
    exponent: float = SHARE_EXPONENT
    learnt: bool = False
    """False = the published values"""


Table = tuple[tuple[float, ...], ...]


class PlantState(msgspec.Struct, frozen=True, kw_only=True):
    """Everything a Plant is, as JSON. Lists follow `servers`. What has a default came with version 2; older states still
    load."""

    version: int = 1
    servers: tuple[str, ...]
    inlet: Table
    """[servers][5] a, b0, b1, b2, c"""
    gpu: Table
    """[servers][3] a, b, c"""
    power: Table
    """[servers][3]"""
    airflow: Table
    """[servers][2]"""
    airflow_idle_cfm: tuple[float, ...]
    peak_gpu_w: tuple[float, ...]
    clocks: Clocks = Clocks()
    errors: dict[str, float] = {}
    """inlet_c, gpu_c, gpu_each_c (K), server_power_w (W), airflow_cfm (CFM per aisle): median over units of the mean absolute
    error on the newest week (fifth, below three weeks) of a fit on the rest; absent = not learnt: data sheet's or published
    values"""
    outside_range_c: tuple[float, float] = (0.0, 0.0)
    """span of the outside temperatures learnt from"""
    points: dict[str, int] = {}
    """observations behind each model"""
    gpu_full_w: tuple[float, ...] = ()
    """[servers] summed TDP"""
    gpu_knots_w: Table = ()
    """[servers][K] P_k, rising"""
    gpu_bends: Table = ()
    """[servers][K] d_k"""
    gpu_each: tuple[Table, ...] = ()
    """[servers][GPUs] e, f; absent = nothing but the hottest GPU was read"""
    each_read: tuple[bool, ...] = ()
    """[servers] False = its GPUs were never read one by one: e, f are those of the places in its class"""
    load_range: tuple[float, float] | None = None
    """span of the site's load shares learnt from"""
    ranges: dict[str, tuple[tuple[float, float] | None, ...]] = {}
    """gpu_power_w, inlet_c: [servers] span of what was seen; None = nothing"""
    unit_errors: dict[str, tuple[float | None, ...]] = {}
    """[servers] as `errors`, each server's own, and server_power_share (relative); airflow_cfm: of its aisle; None = no
    reading"""
    groups: tuple[int, ...] = ()
    """[servers] class = position of the hardware in the topology"""


class Plant:
    """contracts.view.ServerPlant over a PlantState. Arrays follow `servers`, the topology's order."""

    def __init__(self, state: PlantState) -> None:
        """Take the values; InputError when their lengths differ or a temperature would not rise with power."""
        self.state = state
        self.servers = state.servers
        n = len(state.servers)
        self._inlet = _table(state.inlet, n, 5, "inlet")
        self._gpu = _table(state.gpu, n, 3, "gpu")
        self._power = _table(state.power, n, 3, "power")
        self._air = _table(state.airflow, n, 2, "airflow")
        self._idle_cfm = _column(state.airflow_idle_cfm, n, "airflow_idle_cfm")
        self._peak = _column(state.peak_gpu_w, n, "peak_gpu_w")
        self._full = _column(state.gpu_full_w, n, "gpu_full_w") if state.gpu_full_w else self._peak
        width = len(state.gpu_bends[0]) if state.gpu_bends else 0
        self._knots = _table(state.gpu_knots_w or ((),) * n, n, width, "gpu_knots_w")
        self._slopes, self._values = self._curves(_table(state.gpu_bends or ((),) * n, n, width, "gpu_bends"))

    def _curves(self, bends: Floats) -> tuple[Floats, Floats]:
        """Return ([S, G, K + 1] K/W of each GPU's pieces, [S, G, K + 1] its temperature at their beginnings but for a + b
        inlet); places without a GPU stand at -inf."""
        each = self._each()
        own = np.cumsum(np.concatenate([self._gpu[:, 2:], bends], axis=1), axis=1)
        slopes = own[:, None, :] + each[:, :, 1:]
        if slopes.size and not (np.where(np.isnan(slopes), 1.0, slopes) > 0).all():
            raise InputError("plant: a GPU's temperature must rise with its power; fit the plant again")
        edges = np.concatenate([np.zeros((len(own), 1)), self._knots], axis=1)
        rises = slopes[:, :, :-1] * np.diff(edges, axis=1)[:, None, :]
        values = each[:, :, :1] + np.concatenate([np.zeros((*slopes.shape[:2], 1)), np.cumsum(rises, axis=2)], axis=2)
        return np.where(np.isnan(slopes), 1.0, slopes), np.where(np.isnan(values), -np.inf, values)

    def _each(self) -> Floats:
        """[S, G, 2] e, f; NaN where a server has no such GPU."""
        each = self.state.gpu_each or (((0.0, 0.0),),) * len(self.servers)
        if len(each) != len(self.servers) or any(not gpus or any(len(pair) != 2 for pair in gpus) for gpus in each):
            raise InputError("plant: gpu_each needs a pair of numbers for each GPU of each server; fit the plant again")
        out = np.full((len(each), max((len(gpus) for gpus in each), default=1), 2), np.nan)
        for s, gpus in enumerate(each):
            out[s, : len(gpus)] = gpus
        return out

    def inlet_c(self, outside_c: float, load_share: float) -> Floats:
        """[servers] inlet temperature; beyond the learnt range it follows the published slopes (`inlet_error_k` grows)."""
        terms = inlet_terms(np.array([outside_c]), np.array([load_share]))[0]
        return np.asarray(self._inlet @ terms, dtype=np.float64)

    def inlet_error_k(self, outside_c: float) -> float:
        """Return the expected absolute error of `inlet_c` at a typical server: the learnt one, and .25 K for each degC beyond
        the learnt range."""
        low, high = self.state.outside_range_c
        return self.state.errors.get("inlet_c", UNKNOWN["inlet_c"]) + DOUBT["outside_c"] * float(_beyond(outside_c, low, high))

    def inlet_errors_k(self, outside_c: float, load_share: float) -> Floats:
        """[servers] expected absolute error of `inlet_c`, each server's own, and what is doubted beyond what was seen."""
        return self._error("inlet_c") + self.trust("outside_c", outside_c) + self.trust("load_share", load_share)

    def gpu_each_c(self, inlet_c: Floats, gpu_power_w: Floats) -> Floats:
        """[servers, GPUs] temperatures from inlet and the server's summed GPU power; NaN where a server has no such GPU. Where
        GPUs were never read one by one (`each_read`) their class's places are told; where none was, one column: the hottest."""
        hot = self._hot(inlet_c, gpu_power_w)
        return np.where(np.isneginf(self._values[:, :, 0]), np.nan, hot)

    def each_read(self) -> NDArray[np.bool_]:
        """[servers] whether `gpu_each_c` rests on the server's own GPUs."""
        return np.array(self.state.each_read or (False,) * len(self.servers), dtype=np.bool_)

    def gpu_c(self, inlet_c: Floats, gpu_power_w: Floats) -> Floats:
        """[servers] hottest GPU's temperature from inlet and the server's summed GPU power: the highest of `gpu_each_c`."""
        return np.asarray(self._hot(inlet_c, gpu_power_w).max(axis=1), dtype=np.float64)

    def _hot(self, inlet_c: Floats, gpu_power_w: Floats) -> Floats:
        base = self._gpu[:, 0] + self._gpu[:, 1] * inlet_c
        piece = (gpu_power_w[:, None] > self._knots).sum(axis=1)[:, None, None]
        edges = np.concatenate([np.zeros((len(base), 1)), self._knots], axis=1)
        begin = np.take_along_axis(edges, piece[:, :, 0], axis=1)
        at = np.broadcast_to(piece, (*self._values.shape[:2], 1))
        rise = np.take_along_axis(self._slopes, at, axis=2)[:, :, 0] * (gpu_power_w[:, None] - begin)
        return np.asarray(base[:, None] + np.take_along_axis(self._values, at, axis=2)[:, :, 0] + rise, dtype=np.float64)

    def gpu_power_at_c(self, inlet_c: Floats, gpu_c: Floats) -> Floats:
        """[servers] summed GPU power at which the hottest GPU reaches `gpu_c`; never below 0."""
        left = (gpu_c - self._gpu[:, 0] - self._gpu[:, 1] * inlet_c)[:, None]
        piece = (left[:, :, None] > self._values[:, :, 1:]).sum(axis=2)[:, :, None]
        edges = np.concatenate([np.zeros((len(left), 1)), self._knots], axis=1)
        begin = np.take_along_axis(edges, piece[:, :, 0], axis=1)
        value, slope = (np.take_along_axis(of, piece, axis=2)[:, :, 0] for of in (self._values, self._slopes))
        return np.asarray(np.maximum((begin + (left - value) / slope).min(axis=1), 0.0), dtype=np.float64)

    def gpu_error_k(self, inlet_c: Floats, gpu_power_w: Floats) -> Floats:
        """[servers] expected absolute error of `gpu_c`, each server's own, and what is doubted beyond what it has shown."""
        return self._error("gpu_c") + self.trust("inlet_c", inlet_c) + self.trust("gpu_power_w", gpu_power_w)

    def server_power_w(self, gpu_power_w: Floats) -> Floats:
        """[servers] wall power from summed GPU power; never below the GPUs' own."""
        a, b, c = self._power.T
        power = a + b * gpu_power_w + c * np.square(gpu_power_w)
        return np.asarray(np.maximum(power, gpu_power_w), dtype=np.float64)

    def power_error_w(self, gpu_power_w: Floats) -> Floats:
        """[servers] expected absolute error of `server_power_w`, and a tenth of what is drawn beyond what was seen."""
        unknown = UNKNOWN["server_power_share"] * self.server_power_w(gpu_power_w)
        known = self._known("server_power_w")
        low, high = self._range("gpu_power_w")
        return np.where(np.isnan(known), unknown, known) + DOUBT["wall_share"] * _beyond(gpu_power_w, low, high)

    def trust(self, name: str, at: Floats | float) -> Floats:
        """[servers] kelvins to add to a law's error where an input lies beyond what was seen: 0 inside, growing with the
        distance.

        `outside_c`, `load_share` (of the inlet), `inlet_c`, `gpu_power_w` (of the GPUs). Where an input was never seen the
        whole law is unknown, and its error says so. InputError for another name.
        """
        n = len(self.servers)
        if name in ("outside_c", "load_share"):
            low, high = self.state.outside_range_c if name == "outside_c" else self.state.load_range or (-np.inf, np.inf)
            return np.asarray(np.full(n, DOUBT[name]) * _beyond(np.asarray(at, dtype=np.float64), low, high))
        if name not in ("inlet_c", "gpu_power_w"):
            raise InputError(f"plant: no input {name!r}; there are outside_c, load_share, inlet_c and gpu_power_w")
        doubt = DOUBT["gpu_power_share"] / self._full if name == "gpu_power_w" else np.full(n, DOUBT[name])
        return np.asarray(doubt * _beyond(np.asarray(at, dtype=np.float64), *self._range(name)), dtype=np.float64)

    def errors_of(self, server: str) -> dict[str, float]:
        """Return a server's own errors on held-out data by model, as in `PlantState.unit_errors`; what has none is left out.
        InputError for a server that the plant does not know."""
        if server not in self.servers:
            raise InputError(f"plant: no server {server!r}")
        at = self.servers.index(server)
        found = {name: errors[at] for name, errors in self.state.unit_errors.items()}
        return {name: error for name, error in found.items() if error is not None}

    def airflow_cfm(self, gpu_power_w: Floats) -> Floats:
        """[servers] airflow from summed GPU power: linear, never below idle."""
        a, b = self._air.T
        return np.asarray(np.maximum(a + b * gpu_power_w, self._idle_cfm), dtype=np.float64)

    def clock_power_share(self, clock_mhz: Floats, max_clock_mhz: Floats) -> Floats:
        """[servers] busy GPU power at a clock relative to the maximum clock, in (0, 1]."""
        clocks = self.state.clocks
        ratio = np.clip(clock_mhz / max_clock_mhz, 0.0, 1.0)
        return np.asarray(clocks.floor + (1.0 - clocks.floor) * ratio**clocks.exponent, dtype=np.float64)

    def peak_gpu_power_w(self) -> Floats:
        """[servers] highest 5 min GPU power in the history; data sheet's where it has less than a week."""
        return self._peak

    def to_json(self) -> bytes:
        """Return the plant as JSON for the `state` topic."""
        return msgspec.json.encode(self.state)

    @classmethod
    def from_json(cls, data: bytes) -> "Plant":
        """Return the plant in `data`; InputError with one line when it is none."""
        try:
            return cls(msgspec.json.decode(data, type=PlantState))
        except msgspec.DecodeError as error:
            raise InputError(f"plant: {error}; publish one made by Plant.to_json") from None

    def _known(self, name: str) -> Floats:
        """[servers] own errors; NaN = none."""
        return np.array(self.state.unit_errors.get(name, (None,) * len(self.servers)), dtype=np.float64)

    def _error(self, name: str) -> Floats:
        """[servers] own errors; an older state's typical one; the unknown law's where a server was not read."""
        own, typical = self._known(name), self.state.errors.get(name)
        if name not in self.state.unit_errors and typical is not None:
            return np.full(len(own), typical)
        return np.where(np.isnan(own), max(UNKNOWN[name], typical or 0.0), own)

    def _range(self, name: str) -> tuple[Floats, Floats]:
        spans = self.state.ranges.get(name, (None,) * len(self.servers))
        both = np.array([span or (-np.inf, np.inf) for span in spans], dtype=np.float64).reshape(len(self.servers), 2)
        return both[:, 0], both[:, 1]


def inlet_terms(outside_c: NDArray[np.float64], load_share: NDArray[np.float64]) -> NDArray[np.float64]:
    """Return [N, 5] the inlet model's terms."""
    hinges = [np.maximum(0.0, outside_c - knee) for knee in KNEES_C]
    return np.stack([np.ones_like(outside_c), outside_c, *hinges, load_share], axis=1)


def load_share(gpu_power_w: Floats | NDArray[np.float32], peak_w: Floats) -> Floats:
    """Return [T] the site's load: power [S, T] over the peaks [S] of those servers that are known; .5 where none is."""
    seen = np.isfinite(gpu_power_w)
    known = peak_w @ seen
    total = np.where(seen, gpu_power_w, 0.0).sum(axis=0, dtype=np.float64)
    share = np.divide(total, known, out=np.full(len(known), 0.5), where=known > 0)
    return np.asarray(np.clip(share, 0.0, 1.2), dtype=np.float64)


def _beyond(at: Floats | float, low: Floats | float, high: Floats | float) -> Floats:
    return np.maximum(np.maximum(low - at, at - high), 0.0)


def _table(rows: Table, servers: int, width: int, name: str) -> NDArray[np.float64]:
    if len(rows) != servers or any(len(row) != width for row in rows):
        raise InputError(f"plant: {name} needs {servers} x {width} numbers, one row per server; fit the plant again")
    out = np.array(rows, dtype=np.float64).reshape(servers, width)
    out.flags.writeable = False
    return out


def _column(values: tuple[float, ...], servers: int, name: str) -> NDArray[np.float64]:
    return _table(tuple((value,) for value in values), servers, 1, name)[:, 0]
