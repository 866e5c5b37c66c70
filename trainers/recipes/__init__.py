"""A run by name: plan, data, model and settings as a command or a TOML file says them."""
