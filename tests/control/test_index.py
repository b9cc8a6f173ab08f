import numpy as np
import pytest
from msgspec.structs import replace

from contracts.errors import ConfigError
from control.index import build
from tests.factories import make_topology, make_view


def test_positions_follow_the_topology() -> None:
    index = build(make_topology(servers_per_row=4, rows=3))
    assert index.server["r1s2"] == 6
    assert index.server_row[6] == 1
    assert index.server_aisle[index.server["r2s0"]] == 1
    assert list(index.gpu_first[:3]) == [0, 8, 16]
    assert index.gpu_server[8] == 1


def test_arrays_cannot_be_written() -> None:
    index = build(make_topology())
    with pytest.raises(ValueError, match="read-only"):
        index.row_limit_w[0] = 1.0


def test_a_name_that_stands_twice_is_named() -> None:
    topology = make_topology()
    with pytest.raises(ConfigError, match="server 'r0s0' stands twice"):
        build(replace(topology, servers=(*topology.servers, topology.servers[0])))


def test_an_unknown_row_is_named_with_what_there_is() -> None:
    topology = make_topology()
    stray = replace(topology.servers[0], name="stray", row="row-9")
    with pytest.raises(ConfigError, match=r"server stray: unknown row 'row-9'; there are row-0, row-1"):
        build(replace(topology, servers=(*topology.servers, stray)))


def test_the_healthy_view_has_room() -> None:
    view = make_view()
    assert np.all(view.row_power_w < view.index.row_limit_w)
