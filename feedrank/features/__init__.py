"""Point-in-time features: one definition each, executed offline and online."""
