"""A run by name: plan, data, model and settings as a command or a TOML file says them."""

from dpigu.trainers.recipes.assignments import assigned, clipped_at
from dpigu.trainers.recipes.from_file import recipe_from_dict, recipe_from_file
from dpigu.trainers.recipes.from_preset import recipe_for
from dpigu.trainers.recipes.recipe import Recipe

__all__ = [
    "Recipe",
    "assigned",
    "clipped_at",
    "recipe_for",
    "recipe_from_dict",
    "recipe_from_file",
]
