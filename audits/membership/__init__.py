"""Membership inference by shadow models: estimates that decide nothing."""
