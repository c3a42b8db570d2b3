"""One order of classes for counting, training and evaluation: that of the json's category ids.

Detectron2's own loader has it, and refuses metadata that say otherwise; so does this package.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

from detectron2.data import MetadataCatalog

from ..annotations.formats import is_there
from ..annotations.reading import read_categories
from ..annotations.schema import Category
from ..errors import ConfigError

_KEYS = ("thing_dataset_id_to_contiguous_id", "thing_classes")


def is_in_json_order(name: str, json_file: str) -> bool:
    """Whether a registered data set's classes are in the order of its json's category ids.

    Somebody's own loader may have an order of its own, and Detectron2's has one where the ids of an
    LVIS json have holes: there the dicts and the metadata decide.
    """
    metadata = MetadataCatalog.get(name)
    if not any(key in vars(metadata) for key in _KEYS) or not is_there(json_file):
        return True
    return class_order_problem(metadata, read_categories(json_file)) is None


def class_order_problem(metadata: Any, categories: Sequence[Category]) -> str | None:
    """Where the metadata number classes otherwise than the json; None where they agree.

    Classes may be called otherwise, as in another language. A class that bears the name of another
    one is out of order.

    Args:
        metadata: a data set's in Detectron2's MetadataCatalog.
        categories: the json's, in the order of their ids.
    """
    numbers = {category.id: index for index, category in enumerate(categories)}
    theirs = vars(metadata).get("thing_dataset_id_to_contiguous_id")
    if theirs is not None and dict(theirs) != numbers:
        ids = [*numbers, *theirs]
        id_ = next(i for i in ids if theirs.get(i) != numbers.get(i))
        return (
            f"thing_dataset_id_to_contiguous_id has class {theirs.get(id_)} for category id "
            f"{id_!r}, and in the order of the ids it is {numbers.get(id_)}"
        )
    names = [category.name for category in categories]
    called = vars(metadata).get("thing_classes")
    if called is not None and len(called) != len(names):
        return f"thing_classes has {len(called)} names, and 'categories' {len(names)}"
    for index, name in enumerate(called or ()):
        if name != names[index] and name in names:
            return (
                f"thing_classes[{index}] is {name!r}, and in the order of the category ids class "
                f"{index} is {names[index]!r} (id {categories[index].id!r})"
            )
    return None


def check_class_order(name: str, json_file: str, categories: Sequence[Category]) -> None:
    """Refuse metadata that number a data set's classes otherwise than its json.

    Raises:
        ConfigError: they do.
    """
    problem = class_order_problem(MetadataCatalog.get(name), categories)
    if problem:
        raise ConfigError(
            f"the metadata of data set {name!r} contradict {json_file}: {problem}; leave that key "
            f"out, or number the ids in the json as you want the classes"
        )
