"""Rules under vmap for what torch cannot take a record at a time."""
