"""The commands for models that were trained elsewhere, a file each."""
