"""`dpigu plugin`: a package of one's own, with a stage, its tests and its entry point."""
