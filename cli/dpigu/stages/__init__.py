"""The commands of `dpigu stages`, a file each."""
