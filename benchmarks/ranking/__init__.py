"""All presets against each other: the same trials, budgets, seeds and steps for each."""
