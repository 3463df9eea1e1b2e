"""Drift, performance, alerts and triggers."""
