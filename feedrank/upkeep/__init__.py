"""Keeps what grows within its limits: tables are compacted, thinned and vacuumed; what nobody needs is removed.

Every step may be cut off and run again, and runs beside writers and readers.
"""

from feedrank.upkeep.run import run_upkeep

__all__ = ["run_upkeep"]
