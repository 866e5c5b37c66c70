"""Models by name, and the factories that users name."""
