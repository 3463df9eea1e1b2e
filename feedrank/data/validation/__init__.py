"""Validation of a batch of interactions: clean rows, quarantined rows with their reasons, and a report."""

from feedrank.data.validation.run import validate
from feedrank.data.validation.summary import RuleResult, ValidationSummary

__all__ = ["RuleResult", "ValidationSummary", "validate"]
