"""What a forecaster knows and learns while time goes by."""
