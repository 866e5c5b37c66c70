"""The checks that every stage must pass; a plugin author needs no trainer for them."""
