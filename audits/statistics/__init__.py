"""Valid tests and bounds on ε, how they combine, and their power."""
