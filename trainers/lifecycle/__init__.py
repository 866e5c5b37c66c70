"""How a run begins, goes on and ends: what is checked, claimed and paid around its steps."""
