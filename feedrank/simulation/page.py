"""`simulation.html`: one page without outside files that shows what the loop was worth."""

from pathlib import Path

from rich.table import Table

from feedrank import storage
from feedrank.config.simulation import PolicyName
from feedrank.simulation.plots import LABELS, curves
from feedrank.simulation.results import PolicyDay, SimulationResult

PAGE_FILE, RESULT_FILE = "simulation.html", "simulation.json"
TEMPLATE = "simulation.html.j2"


def save(result: SimulationResult, directory: Path) -> Path:
    """Writes the result and its page; returns the page's path."""
    import jinja2

    environment = jinja2.Environment(
        loader=jinja2.FileSystemLoader(Path(__file__).parent), autoescape=True, undefined=jinja2.StrictUndefined
    )
    page = environment.get_template(TEMPLATE).render(
        result=result,
        headline=headline(result),
        alarms=alarms_sentence(result),
        picture=curves(result),
        rows=[summary_row(name, days) for name, days in result.days.items()],
        daily=_daily(result),
        labels=LABELS,
    )
    storage.write_text(directory / RESULT_FILE, result.model_dump_json(indent=2))
    storage.write_text(directory / PAGE_FILE, page)
    return directory / PAGE_FILE


def headline(result: SimulationResult) -> str:
    """What a reader needs first."""
    found = result.recovery
    if found is None:
        return "Too few days after the shift, or policies missing, to say what the loop won back."
    return (
        f"The taste shift took the champion's click-through rate from {found.before_ctr:.1%} to {found.floor_ctr:.1%}. "
        f"The loop brought it to {found.loop_ctr:.1%}: {found.recovered_share:.0%} of what a model with full knowledge "
        f"of the new world regains ({found.informed_ctr:.1%}). Frozen, it stays at {found.frozen_ctr:.1%} "
        f"({found.frozen_share:.0%})."
    )


def alarms_sentence(result: SimulationResult) -> str:
    """When the monitor alarmed, and that it did not when nothing was wrong."""
    calm, later = result.alarms
    false = "no alarm" if not calm else f"{len(calm)} alarms ({calm[0].text.split('; ')[0]})"
    hours = (later[0].at - result.shifted_at).total_seconds() / 3600 if later else 0.0
    found = f"the first {hours:.0f} h after the shift" if later else "none after it either"
    return f"The monitor raised {false} in the calm days before the shift, and {found}."


def summary_row(name: PolicyName, days: list[PolicyDay]) -> dict[str, str]:
    """A policy's means over its days."""
    visits, impressions = sum(d.visits for d in days), sum(d.impressions for d in days)
    retention = [d.retention for d in days if d.retention is not None]
    return {
        "policy": LABELS[name],
        "CTR": f"{sum(d.clicks for d in days) / max(impressions, 1):.2%}",
        "likes or shares": f"{sum(d.engaged for d in days) / max(impressions, 1):.2%}",
        "impressions per visit": f"{impressions / max(visits, 1):.2f}",
        "seconds per visit": f"{sum(d.session_seconds * d.visits for d in days) / max(visits, 1):.0f}",
        "retention": f"{sum(retention) / len(retention):.1%}" if retention else "-",
        "visits": f"{visits:,}",
        "days": str(len(days)),
    }


def summary_table(result: SimulationResult) -> Table:
    """The same of every policy, for a terminal."""
    rows = [summary_row(name, days) for name, days in result.days.items()]
    table = Table(*rows[0])
    for row in rows:
        table.add_row(*row.values())
    return table


def _daily(result: SimulationResult) -> list[tuple[str, dict[str, PolicyDay]]]:
    """Each date with every policy's figures."""
    dates = sorted({day.date for days in result.days.values() for day in days})
    return [
        (f"{date:%m-%d}", {name: day for name, days in result.days.items() for day in days if day.date == date})
        for date in dates
    ]
