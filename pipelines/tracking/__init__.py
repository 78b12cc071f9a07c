"""What MLflow keeps, and the figures it shows."""
