"""Champion and challenger: comparison, promotion, rollback and retraining."""
