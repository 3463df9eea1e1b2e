"""feedrank: data in, a gated and registered feed ranker out, served, watched and healed."""

__version__ = "0.1.0"
