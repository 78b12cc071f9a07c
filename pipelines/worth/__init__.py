"""What forecasts are worth to the plans of one site: ``plancast worth``."""
