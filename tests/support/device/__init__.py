"""An emulated accelerator, and short runs that are watched on it."""
