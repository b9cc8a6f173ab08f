import os
import signal
import subprocess
import sys
import threading
from pathlib import Path

import msgspec
import pynvml
import pytest

from actuators.lanes import Lanes, LaneTimeout
from actuators.node_file import NodeFile
from actuators.nvml import NvmlClocks, NvmlSettings
from actuators.signing import load_key, sign
from contracts.control import Action, ClockCap
from contracts.errors import ConfigError
from tests.actuators.conftest import wait_until
from tests.actuators.targets import make_action
from tests.nvml_standin.standin import NO_LOCKED_CLOCKS, NO_REASONS, NO_SUPPORTED_CLOCKS, NO_UTILISATION, Standin


def clocks(cards: Standin, *, declared: tuple[int, int] | None = None, timeout_s: float = 2.0) -> NvmlClocks:
    actuator = NvmlClocks(NvmlSettings(timeout_s=timeout_s, verify_s=0.6, sample_s=0.1))
    actuator.allow(NodeFile(gpus=(cards.uuid(0), cards.uuid(1)), declared_lock_mhz=declared))
    return actuator


def cap(mhz: float, *gpus: int) -> Action:
    return make_action(ClockCap(max_mhz=mhz, gpus=gpus))


def locks(cards: Standin) -> list[tuple[int, int]]:
    return [(cards.gpu(i).lock_min_mhz, cards.gpu(i).lock_max_mhz) for i in range(2)]


def test_under_load_a_cap_is_proved_by_the_clock(cards: Standin) -> None:
    for index in range(2):
        cards.gpu(index).load = 1.0
        cards.gpu(index).settle_s = 0.15
    found = clocks(cards).apply(cap(1207))
    assert found.status == "applied", found
    assert found.before == "0: 1980 MHz, 1: 1980 MHz"
    assert found.after == "0: 1200 <= 1200 MHz, 1: 1200 <= 1200 MHz", "rounded down to a clock that the GPU has"
    assert locks(cards) == [(345, 1200)] * 2


def test_on_an_idle_gpu_it_stays_unverified_until_there_is_load(cards: Standin) -> None:
    actuator = clocks(cards)
    assert actuator.apply(cap(1200)).status == "applied_unverified"
    cards.gpu(0).load = cards.gpu(1).load = 1.0
    assert actuator.apply(cap(1200)).status == "applied"
    cards.gpu(0).load = cards.gpu(1).load = 0.0
    assert actuator.apply(cap(1200)).status == "applied", "a proof is not taken back when the work ends"
    assert [cards.gpu(i).locks for i in range(2)] == [1, 1]


@pytest.mark.parametrize("unsupported", [NO_REASONS, NO_UTILISATION, NO_SUPPORTED_CLOCKS])
def test_a_gpu_that_tells_less_can_still_be_capped(cards: Standin, unsupported: int) -> None:
    for index in range(2):
        cards.gpu(index).load = 1.0
        cards.gpu(index).unsupported = unsupported
    assert clocks(cards).apply(cap(1200)).status == "applied"


def test_without_load_signals_nothing_is_proved(cards: Standin) -> None:
    for index in range(2):
        cards.gpu(index).load = 1.0
        cards.gpu(index).unsupported = NO_REASONS | NO_UTILISATION
    assert clocks(cards).apply(cap(1200)).status == "applied_unverified"


def test_a_lock_that_is_ignored_is_a_failure(cards: Standin) -> None:
    cards.gpu(0).load = cards.gpu(1).load = 1.0
    cards.gpu(1).deaf = 1
    found = clocks(cards).apply(cap(1200))
    assert (found.status, found.reason) == ("partly", "GPU 1 still at 1980 MHz, above 1200 MHz")
    cards.gpu(0).deaf = 1
    assert clocks(cards).apply(cap(1100)).status == "failed"


def test_a_lock_that_somebody_reset_is_set_again(cards: Standin) -> None:
    cards.gpu(0).load = cards.gpu(1).load = 1.0
    actuator = clocks(cards)
    actuator.apply(cap(1200))
    pynvml.nvmlDeviceResetGpuLockedClocks(pynvml.nvmlDeviceGetHandleByIndex(0))
    found = actuator.apply(cap(1200))
    assert (found.status, found.reason) == ("applied", "GPU 0 found at 1980 MHz: locked again")
    assert [cards.gpu(i).locks for i in range(2)] == [2, 1]


def test_without_permission_it_says_what_is_needed(cards: Standin) -> None:
    cards.state.no_permission = 1
    found = clocks(cards).apply(cap(1200))
    assert found.status == "failed"
    assert "root or with CAP_SYS_ADMIN" in found.reason


def test_a_gpu_that_is_lost_or_cannot_costs_only_itself(cards: Standin) -> None:
    cards.gpu(0).load = 1.0
    cards.gpu(1).unsupported = NO_LOCKED_CLOCKS
    actuator = clocks(cards)
    assert actuator.apply(cap(1200)).status == "partly"
    cards.gpu(1).lost = 1
    found = actuator.apply(cap(1100))
    assert (found.status, found.reason) == ("partly", "GPU 1: GPU is lost")
    found = actuator.revert(cap(1100))
    assert found.status == "reverted", "a lost GPU holds no lock"
    assert locks(cards)[0] == (0, 0)


def test_a_hanging_gpu_holds_up_nobody_else(cards: Standin) -> None:
    cards.gpu(0).load = cards.gpu(1).load = 1.0
    actuator = clocks(cards, timeout_s=0.8)
    cards.gpu(1).hang = 1
    found = actuator.apply(cap(1200))
    assert (found.status, found.reason) == ("partly", "GPU 1: an earlier call still hangs")
    assert locks(cards) == [(345, 1200), (0, 0)]
    assert actuator.revert(cap(1200)).status == "failed", "what is not seen to be free is not free"
    cards.gpu(1).hang = 0
    wait_until(lambda: actuator.revert(cap(1200)).status == "reverted", "the hanging call came back")
    assert locks(cards) == [(0, 0), (0, 0)]


def test_only_what_the_node_opted_in_is_touched(cards: Standin) -> None:
    actuator = NvmlClocks(NvmlSettings(sample_s=0.1))
    assert actuator.apply(cap(1200)).status == "refused", "no file, no GPU"
    actuator.allow(NodeFile(gpus=(cards.uuid(1),)))
    found = actuator.apply(cap(1200, 0))
    assert (found.status, found.reason) == ("refused", "GPU 0 not opted in by the node's file; nothing was touched")
    assert actuator.apply(cap(1200, 0, 1)).status == "partly"
    assert actuator.apply(cap(1100)).status == "applied_unverified"
    actuator.revert(cap(1100))
    assert [(cards.gpu(i).locks, cards.gpu(i).resets) for i in range(2)] == [(0, 0), (2, 1)]


def test_a_cap_of_other_gpus_gives_back_the_first(cards: Standin) -> None:
    actuator = clocks(cards)
    actuator.apply(cap(1200, 0))
    actuator.apply(cap(1200, 1))
    assert locks(cards) == [(0, 0), (345, 1200)]


def test_the_declared_lock_is_restored_and_never_exceeded(cards: Standin) -> None:
    actuator = clocks(cards, declared=(600, 1500))
    actuator.apply(cap(1800))
    assert locks(cards) == [(600, 1500)] * 2
    actuator.apply(cap(900))
    assert locks(cards) == [(600, 900)] * 2
    actuator.revert(cap(900))
    assert locks(cards) == [(600, 1500)] * 2


def test_a_cap_below_what_the_gpu_can_do_is_refused(cards: Standin) -> None:
    found = clocks(cards).apply(cap(288))
    assert (found.status, found.reason) == ("refused", "288 MHz is below the GPU's lowest clock, 345 MHz")


def test_no_driver_is_one_clear_line(cards: Standin) -> None:
    cards.state.no_driver = 1
    with pytest.raises(ConfigError, match="nvml: Driver Not Loaded; install the NVIDIA driver"):
        NvmlClocks(NvmlSettings())
    with pytest.raises(ConfigError, match="timeout_s = 1"):
        NvmlClocks(NvmlSettings(timeout_s=1.0))


def test_lanes_run_side_by_side_and_give_up() -> None:
    lanes: Lanes[int] = Lanes()
    together = threading.Barrier(3, timeout=10)
    found = lanes.run({i: lambda i=i: together.wait() * 0 + i for i in range(3)}, 10.0)  # type: ignore[misc]
    assert found == {0: 0, 1: 1, 2: 2}
    release = threading.Event()
    assert isinstance(lanes.run({0: lambda: int(release.wait(10))}, 0.05)[0], LaneTimeout)
    assert isinstance(lanes.run({0: lambda: 5}, 0.05)[0], LaneTimeout)
    release.set()
    wait_until(lambda: lanes.run({0: lambda: 5}, 1.0)[0] == 5, "the lane is free again")


AGENT = """
import sys, time
from datetime import UTC, datetime
from pathlib import Path
import msgspec
from actuators.agent import Agent
from actuators.node_file import NodeFile
from actuators.nvml import NvmlClocks, NvmlSettings
from actuators.signing import load_key
from contracts.control import Action

class Wall:
    def now(self): return datetime.now(UTC)
    wall = now

folder = Path(sys.argv[1])
agent = Agent(names=["r0s0"], actuators={"clock_cap": NvmlClocks(NvmlSettings(sample_s=0.1))}, key=load_key(folder / "key"),
    node_file=NodeFile.read(folder / "node.toml"), journal=folder / "journal.jsonl", clock=Wall(), name="t")
for outcome in agent.start():
    print(outcome.status, outcome.reason, flush=True)
if len(sys.argv) > 2:
    print(agent.receive(msgspec.json.decode(sys.argv[2], type=Action))[0].status, flush=True)
    time.sleep(60)
"""


def test_a_killed_agent_leaves_no_cap_behind(cards: Standin, tmp_path: Path) -> None:
    cards.gpu(0).load = cards.gpu(1).load = 1.0
    (tmp_path / "node.toml").write_text(f'gpus = ["{cards.uuid(0)}", "{cards.uuid(1)}"]\n')
    action = sign(cap(1200), load_key(tmp_path / "key", make=True))
    run = [sys.executable, "-c", AGENT, str(tmp_path)]
    first = subprocess.Popen([*run, msgspec.json.encode(action).decode()], env=cards.env(), stdout=subprocess.PIPE, text=True)
    try:
        assert first.stdout is not None
        assert first.stdout.readline().strip() == "applied"
    finally:
        os.kill(first.pid, signal.SIGKILL)
        first.communicate(timeout=10)
    assert locks(cards) == [(345, 1200)] * 2, "the lock outlives the process"
    second = subprocess.run(run, env=cards.env(), capture_output=True, text=True, check=True, timeout=60)
    assert second.stdout.strip() == "reverted left in force by a crash"
    assert locks(cards) == [(0, 0)] * 2
