"""`coldaisle twin profile`: one instance at a clock and a load: what it draws, how long requests take, how hot it gets."""

from pathlib import Path

import msgspec
import numpy as np

from contracts.errors import InputError
from ingest.workload import load as load_workload
from twin import hardware, models, profile
from twin.classes import CLASSES, classify
from twin.points import Point


class Options(msgspec.Struct, frozen=True, kw_only=True):
    """What the command line chose. None = the profile's or the calibration's own."""

    gpu: str
    model: str
    calibration: str | None
    tp: int
    quantisation: str
    freq_mhz: float | None
    request_class: str | None
    rps: float
    inlet_c: float
    seed: int
    data: Path | None


class Answer(msgspec.Struct, frozen=True, kw_only=True):
    """One operating point and what was asked. `twin.profile.OperatingPoint` says what each figure is."""

    gpu: str
    model: str
    calibration: str
    tp: int
    quantisation: str
    freq_mhz: float
    request_class: str | None = msgspec.field(name="class")
    rps: float
    ttft_slo_s: float
    """objective of P99"""
    tbt_slo_s: float
    feasible: bool
    power_w: float
    ttft_p50_s: float
    ttft_p99_s: float
    tbt_p50_s: float
    tbt_p99_s: float
    latency_s: float
    batch: float
    busy: float
    gpu_c: float
    server_w: float


def answer(o: Options) -> Answer:
    """Return the operating point. ConfigError and InputError name what is not there, and what is."""
    server = hardware.load(o.gpu)
    calibration, point = point_of(o, server.gpu)
    load = load_of(o)
    objectives = profile.unloaded(point, load) if o.request_class is None else profile.class_objectives(o.request_class)
    mhz = clock_of(o, server)
    try:
        found = profile.operating_point(point, server, load, mhz=mhz, seed=o.seed, objectives=objectives, inlet_c=o.inlet_c)
    except ValueError as error:
        raise InputError(f"--rps {o.rps:g}: {error}") from None
    return Answer(
        gpu=o.gpu,
        model=point.model,
        calibration=calibration,
        tp=point.tp,
        quantisation=point.quantisation,
        freq_mhz=mhz,
        request_class=o.request_class,
        rps=o.rps,
        ttft_slo_s=objectives.ttft_s,
        tbt_slo_s=objectives.tbt_s,
        **found._asdict(),
    )


def point_of(o: Options, gpu: str) -> tuple[str, Point]:
    """Return the calibration's name and its point. `--model` names a model, or a calibration whose first model is meant."""
    shipped = sorted(p.stem for p in models.FOLDER.glob("*.toml"))
    names, model = ([o.calibration] if o.calibration else shipped), o.model
    if model in shipped or model.endswith(".toml"):
        names = [o.calibration or model]
        points = models.load(names[0]).points
        model = next((p.model for p in points if p.gpu == gpu), points[0].model)
    found = [models.load(name) for name in names]
    having = [c for c in found if any(p.model == model for p in c.points)]
    if not having:
        there = ", ".join(dict.fromkeys(p.model for c in found for p in c.points))
        raise InputError(f"no model {model} in {', '.join(c.name for c in found)}; there are {there}")
    # Of several that know the model, the first that knows it on this GPU.
    best = next((c for c in having if any(p.model == model and p.gpu == gpu for p in c.points)), having[0])
    return best.name, best.point(model, gpu, o.tp, o.quantisation)


def clock_of(o: Options, server: hardware.Profile) -> float:
    """Return the clock; InputError where the hardware would refuse it."""
    low, high = server.sheet.min_clock_mhz, server.sheet.max_clock_mhz
    mhz = high if o.freq_mhz is None else o.freq_mhz
    if not low <= mhz <= high:
        raise InputError(f"--freq {mhz:g}: {server.sheet.name} takes {low:g} to {high:g} MHz")
    return mhz


def load_of(o: Options) -> profile.Load:
    """Return requests of the workload's lengths, those of the class alone where one is named (Table IV's bounds)."""
    workload = load_workload(o.data)
    prompt, output = workload.prompt_tokens, workload.output_tokens
    if o.request_class is not None:
        mine = np.flatnonzero(classify(prompt, output) == CLASSES.index(o.request_class))
        if len(mine) == 0:
            raise InputError(f"--class {o.request_class}: {workload.name} has no such request; give other --data")
        prompt, output = prompt[mine], output[mine]
    return profile.Load(o.rps, prompt, output)
