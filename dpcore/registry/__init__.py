"""Stages by name: the registry with its plugins, TOML round trips, and a plan in words."""
