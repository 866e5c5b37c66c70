"""A verdict's report as JSON and as one HTML page."""
