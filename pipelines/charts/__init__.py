"""Charts of forecasts, plans and what they are worth, and the pages that hold them."""
