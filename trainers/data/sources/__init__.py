"""Where records lie: in memory, in arrays and memory maps, in data sets, tables and folders."""

from dpigu.trainers.data.sources.base import (
    NONE,
    Arrays,
    Indices,
    Items,
    Shapes,
    Source,
    Tensors,
    bytes_of,
    form_of,
    forms_of,
    is_shape,
    pieces,
    shapes_of,
)

__all__ = [
    "NONE",
    "Arrays",
    "Indices",
    "Items",
    "Shapes",
    "Source",
    "Tensors",
    "bytes_of",
    "form_of",
    "forms_of",
    "is_shape",
    "pieces",
    "shapes_of",
]
