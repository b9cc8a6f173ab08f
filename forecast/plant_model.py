"""Learnt plant models: each server's inlet, GPU temperature, power and airflow as functions (TAPAS eqs. 1 to 4).

`Plant` holds values only, evaluates them, and travels as JSON on the `state` topic; `forecast.plant.fit` learns them.

    inlet       a + b0 o + b1 max(0, o - 15) + b2 max(0, o - 29) + c load     o = outside degC (piecewise, degree 1)
    GPU         a + b inlet + c P                                             hottest GPU, P = the server's summed GPU power
    server      a + b P + c P^2
    airflow     a + b P                                                         never below idle
    clock       s + (1 - s) (f / fmax)^e                                        share of the busy GPU power
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


class Clocks(msgspec.Struct, frozen=True, kw_only=True):
    """Busy GPU power by clock: floor + (1 - floor) (f / fmax)^exponent."""

    floor: float = SHARE_FLOOR
    exponent: float = SHARE_EXPONENT
    learnt: bool = False
    """False = the published values"""


class PlantState(msgspec.Struct, frozen=True, kw_only=True):
    """Everything a Plant is, as JSON. Lists follow `servers`."""

    servers: tuple[str, ...]
    inlet: tuple[tuple[float, ...], ...]
    """[servers][5] a, b0, b1, b2, c"""
    gpu: tuple[tuple[float, ...], ...]
    """[servers][3] a, b, c"""
    power: tuple[tuple[float, ...], ...]
    """[servers][3]"""
    airflow: tuple[tuple[float, ...], ...]
    """[servers][2]"""
    airflow_idle_cfm: tuple[float, ...]
    peak_gpu_w: tuple[float, ...]
    clocks: Clocks = Clocks()
    errors: dict[str, float] = {}
    """inlet_c, gpu_c (K), server_power_w (W), airflow_cfm (CFM per aisle): mean absolute error on the newest fifth of the
    history, of a fit on the rest; absent = not learnt, the data sheet's or published values"""
    outside_range_c: tuple[float, float] = (0.0, 0.0)
    """span of the outside temperatures learnt from"""
    points: dict[str, int] = {}
    """observations behind each model"""


class Plant:
    """contracts.view.ServerPlant over a PlantState. Arrays follow `servers`, the topology's order."""

    def __init__(self, state: PlantState) -> None:
        """Take the values; InputError when their lengths differ."""
        self.state = state
        self.servers = state.servers
        n = len(state.servers)
        self._inlet = _table(state.inlet, n, 5, "inlet")
        self._gpu = _table(state.gpu, n, 3, "gpu")
        self._power = _table(state.power, n, 3, "power")
        self._air = _table(state.airflow, n, 2, "airflow")
        self._idle_cfm = _table(tuple((v,) for v in state.airflow_idle_cfm), n, 1, "airflow_idle_cfm")[:, 0]
        self._peak = _table(tuple((v,) for v in state.peak_gpu_w), n, 1, "peak_gpu_w")[:, 0]

    def inlet_c(self, outside_c: float, load_share: float) -> Floats:
        """[servers] inlet temperature; beyond the learnt range it follows the published slopes (`inlet_error_k` grows)."""
        terms = inlet_terms(np.array([outside_c]), np.array([load_share]))[0]
        return np.asarray(self._inlet @ terms, dtype=np.float64)

    def inlet_error_k(self, outside_c: float) -> float:
        """Return the expected absolute error of `inlet_c`: the learnt one, and .25 K for each degC beyond the learnt range
        (half the spread of TAPAS Fig. 3's slopes)."""
        low, high = self.state.outside_range_c
        beyond = max(low - outside_c, outside_c - high, 0.0)
        return self.state.errors.get("inlet_c", 2.0) + 0.25 * beyond

    def gpu_c(self, inlet_c: Floats, gpu_power_w: Floats) -> Floats:
        """[servers] hottest GPU's temperature from inlet and the server's summed GPU power."""
        a, b, c = self._gpu.T
        return np.asarray(a + b * inlet_c + c * gpu_power_w, dtype=np.float64)

    def gpu_power_at_c(self, inlet_c: Floats, gpu_c: Floats) -> Floats:
        """[servers] summed GPU power at which the hottest GPU reaches `gpu_c`; never below 0."""
        a, b, c = self._gpu.T
        return np.asarray(np.maximum((gpu_c - a - b * inlet_c) / c, 0.0), dtype=np.float64)

    def server_power_w(self, gpu_power_w: Floats) -> Floats:
        """[servers] wall power from summed GPU power; never below the GPUs' own."""
        a, b, c = self._power.T
        power = a + b * gpu_power_w + c * np.square(gpu_power_w)
        return np.asarray(np.maximum(power, gpu_power_w), dtype=np.float64)

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


def inlet_terms(outside_c: NDArray[np.float64], load_share: NDArray[np.float64]) -> NDArray[np.float64]:
    """Return [N, 5] the inlet model's terms."""
    hinges = [np.maximum(0.0, outside_c - knee) for knee in KNEES_C]
    return np.stack([np.ones_like(outside_c), outside_c, *hinges, load_share], axis=1)


def _table(rows: tuple[tuple[float, ...], ...], servers: int, width: int, name: str) -> NDArray[np.float64]:
    if len(rows) != servers or any(len(row) != width for row in rows):
        raise InputError(f"plant: {name} needs {servers} x {width} numbers, one row per server; fit the plant again")
    out = np.array(rows, dtype=np.float64).reshape(servers, width)
    out.flags.writeable = False
    return out
