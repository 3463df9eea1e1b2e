"""Values of environment variables: YAML, but text for a key that holds text, whatever YAML would make of it."""

import types
from pathlib import Path
from typing import Annotated, Any, Literal, Union, get_args, get_origin

import yaml

_NULLS = ("", "~", "null", "Null", "NULL")


def parsed(text: str, annotation: Any) -> Any:
    """The value of a variable for a key of the annotated type.

    Raises:
        yaml.YAMLError: it should be YAML and is not.
    """
    kinds = _alternatives(annotation)
    if types.NoneType in kinds and text.strip() in _NULLS:
        return None
    kinds.discard(types.NoneType)
    if kinds and all(map(_holds_text, kinds)):
        return _plain(text.strip())
    if kinds and all(map(_holds_texts, kinds)):
        return yaml.load(text, yaml.BaseLoader)  # whose scalars are text
    return yaml.safe_load(text)


def _plain(text: str) -> Any:
    quoted = len(text) > 1 and text[0] == text[-1] and text[0] in "'\""
    return yaml.safe_load(text) if quoted else text


def _alternatives(annotation: Any) -> set[Any]:
    if get_origin(annotation) is Annotated:
        return _alternatives(get_args(annotation)[0])
    if get_origin(annotation) in (Union, types.UnionType):
        return {kind for part in get_args(annotation) for kind in _alternatives(part)}
    return {annotation}


def _holds_text(kind: Any) -> bool:
    if get_origin(kind) is Literal:
        return all(isinstance(value, str) for value in get_args(kind))
    return kind in (str, Path)


def _holds_texts(kind: Any) -> bool:
    """Lists and mappings of nothing but text."""
    parts = [part for part in get_args(kind) if part is not ...]
    texts = (alternative for part in parts for alternative in _alternatives(part))
    return get_origin(kind) in (list, tuple, set, frozenset, dict) and bool(parts) and all(map(_holds_text, texts))
