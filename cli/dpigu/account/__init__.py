"""The commands of `dpigu account`, a file each."""
