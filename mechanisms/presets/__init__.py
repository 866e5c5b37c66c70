"""Plans by name: published methods and this project's own, one function each."""
