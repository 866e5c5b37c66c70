"""The commands of `dpaudit`, a file each."""
