"""Rows, aisles, UPSes and air handlers: what they draw and what they may, in the last hour and the next."""

from collections import defaultdict
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

from dashboard.model import Aisle, CapMark, InForce, Path, RowPower, Seen, Unit
from dashboard.moment import MARK_BUCKET_S, POWER_BUCKET_S, Asker, Moment, seconds
from dashboard.paths import Paths, highest

Row = Mapping[str, Any]


@dataclass(frozen=True, kw_only=True)
class Facility:
    """The newest of every meter and machine of the site."""

    newest: Mapping[tuple[str, str], Row]
    """(kind, unit) -> answer of page_facility"""
    ups_lost_share: float
    ahu_lost_share: float

    def lost(self, kind: str, units: Iterable[str]) -> tuple[str, ...]:
        """Those of `units` whose newest state is lost."""
        return tuple(u for u in units if (self.newest.get((kind, u)) or {}).get("state") == "lost")

    def seen(self, kind: str, unit: str, at: Moment) -> Seen:
        """How old the newest sample of a unit is."""
        row = self.newest.get((kind, unit))
        return at.seen(row["created_wall"], row["ts"]) if row else Seen(state="silent")


def facility(ask: Asker, site: Row) -> Facility:
    """Ask for the newest of every meter; what a loss leaves comes from the topology."""
    newest = {(row["kind"], row["unit"]): row for row in ask.rows("page_facility")}
    return Facility(
        newest=newest,
        ups_lost_share=site["ups_lost_share"] if site["ups_lost_share"] is not None else 1.0,
        ahu_lost_share=site["ahu_lost_share"] if site["ahu_lost_share"] is not None else 1.0,
    )


def rows(ask: Asker, site: Facility, paths: Paths, in_force: Sequence[InForce]) -> tuple[RowPower, ...]:
    """Return every row of the topology, in its order."""
    known = ask.rows("page_rows")
    past = by(ask.rows("page_row_past", bucket_s=POWER_BUCKET_S), "row")
    if any(row["row"] not in past for row in known):
        sums = by(ask.rows("page_row_sums", bucket_s=POWER_BUCKET_S), "row")
        past = {**sums, **past}
    marks = by(ask.rows("page_cap_marks", bucket_s=MARK_BUCKET_S), "row")
    capped: dict[str | None, int] = defaultdict(int)
    for action in in_force:
        capped[action.row] += action.kind == "clock_cap" and action.mode == "enforce"
    return tuple(
        _row(
            row,
            past.get(row["row"], []),
            [_mark(m) for m in marks.get(row["row"], [])],
            paths.get(("power", row["row"])),
            site,
            ask.at,
            capped[row["row"]],
        )
        for row in known
    )


def _row(
    row: Row, past: Sequence[Row], marks: Sequence[CapMark], path: Path | None, site: Facility, at: Moment, capped: int
) -> RowPower:
    name, full_w = row["row"], row["limit_w"]
    lost = site.lost("ups", row["upses"])
    limit_w = full_w * site.ups_lost_share if lost else full_w
    meter = site.newest.get(("row", name))
    if meter is not None and meter["power_w"] is not None:
        power_w, source, seen = meter["power_w"], meter["source"], site.seen("row", name, at)
    elif past:
        power_w, source = past[-1]["power_w"], "sum"
        seen = at.seen(past[-1]["created_wall"], past[-1]["ts"])
    else:
        power_w, source, seen = None, "none", Seen(state="silent")
    upper = highest(path, "0.99")
    median = highest(path, "0.5")
    return RowPower(
        row=name,
        aisle=row["aisle"],
        servers=row["servers"],
        seen=seen,
        source=source,
        power_w=power_w,
        limit_w=limit_w,
        full_limit_w=full_w,
        lost_upses=lost,
        headroom_w=None if power_w is None else limit_w - power_w,
        ahead_median_w=median[1] if median else None,
        ahead_upper_w=upper[1] if upper else None,
        ahead_upper_at=upper[0] if upper else None,
        capped=capped,
        past_t=tuple(seconds(p["ts"]) for p in past),
        past_w=tuple(round(p["power_w"], 1) for p in past),
        past_max_w=tuple(round(p.get("power_max_w") or p["power_w"], 1) for p in past),
        path=path,
        marks=tuple(marks),
    )


def _mark(row: Row) -> CapMark:
    return CapMark(
        t=seconds(row["ts"]),
        capped=row["capped"],
        lifted=row["lifted"],
        advised=row["capped"] + row["lifted"] - row["enforced"],
        min_mhz=row["min_mhz"],
        policies=row["policies"],
    )


def aisles(ask: Asker, site: Facility) -> tuple[Aisle, ...]:
    """Return every aisle: the air that it draws beside the air that its handlers give now."""
    found = []
    for row in ask.rows("page_aisles"):
        lost = site.lost("ahu", row["ahus"])
        newest = site.newest.get(("aisle", row["aisle"]))
        found.append(
            Aisle(
                aisle=row["aisle"],
                seen=site.seen("aisle", row["aisle"], ask.at),
                airflow_cfm=newest["airflow_cfm"] if newest else None,
                limit_cfm=row["limit_cfm"] * site.ahu_lost_share if lost else row["limit_cfm"],
                full_limit_cfm=row["limit_cfm"],
                lost_ahus=lost,
                ahus=len(row["ahus"]),
            )
        )
    return tuple(found)


def units(site: Facility, at: Moment) -> tuple[Unit, ...]:
    """Return every UPS and air handler that has told its state."""
    return tuple(
        Unit(kind=kind, unit=unit, state=row["state"] or "unknown", seen=site.seen(kind, unit, at), power_w=row["power_w"])
        for (kind, unit), row in site.newest.items()
        if kind in ("ups", "ahu")
    )


def outside_c(site: Facility) -> float | None:
    """Return the newest outside temperature."""
    found = [
        (row["ts"], row["outside_c"])
        for (kind, _), row in site.newest.items()
        if kind == "site" and row["outside_c"] is not None
    ]
    return max(found)[1] if found else None


def by(found: Iterable[Row], key: str) -> dict[Any, list[Row]]:
    """Group answers by one of their columns, in their order."""
    groups: dict[Any, list[Row]] = defaultdict(list)
    for row in found:
        groups[row[key]].append(row)
    return dict(groups)
