"""Records and their declared constants: by name, from files, as fixed features."""
