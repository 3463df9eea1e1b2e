"""The share of the lost CTR that a policy won back; `results.Recovery` has the definition."""

from collections.abc import Mapping

from feedrank.config.simulation import PolicyName, SimulationConfig
from feedrank.data.generator.drift import EXPOSURE_LAG_DAYS
from feedrank.simulation.results import PolicyDay, Recovery
from feedrank.simulation.trajectory import Trajectory


def measure_recovery(trajectories: Mapping[PolicyName, Trajectory], *, config: SimulationConfig) -> Recovery | None:
    """None when a policy is missing, or there are too few days after the candidates have followed the shift."""
    if not {"loop", "frozen", "informed"} <= set(trajectories):
        return None
    days = {name: trajectories[name].days for name in ("loop", "frozen", "informed")}
    first = config.calm_days + EXPOSURE_LAG_DAYS
    floor, judged = slice(first, first + config.judged_days), slice(-config.judged_days, None)
    if config.calm_days + config.shifted_days < first + 2 * config.judged_days:
        return None
    floor_ctr, informed = ctr(days["frozen"][floor]), ctr(days["informed"][judged])
    loop, frozen = ctr(days["loop"][judged]), ctr(days["frozen"][judged])
    return Recovery(
        recovered_share=(loop - floor_ctr) / (informed - floor_ctr),
        frozen_share=(frozen - floor_ctr) / (informed - floor_ctr),
        before_ctr=ctr(days["frozen"][: config.calm_days]),
        floor_ctr=floor_ctr,
        loop_ctr=loop,
        frozen_ctr=frozen,
        informed_ctr=informed,
        floor_days=(days["frozen"][floor][0].date, days["frozen"][floor][-1].date),
        judged_days=(days["frozen"][judged][0].date, days["frozen"][judged][-1].date),
    )


def ctr(days: list[PolicyDay]) -> float:
    """Clicks over impressions of some days."""
    return sum(day.clicks for day in days) / max(sum(day.impressions for day in days), 1)
