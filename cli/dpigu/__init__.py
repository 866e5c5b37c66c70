"""The commands of `dpigu`, a file each."""
