"""YAML text to nodes: PyYAML's safe loader gives the events and their marks, the rest is done here (R147).

Composing here and not by PyYAML is what refuses duplicate keys (PyYAML keeps the last silently), keeps keys
as text, and bounds depth and what aliases add, before anything large is made.
"""

from __future__ import annotations

from typing import Any

import yaml

from celery_cascade.definition import scalars
from celery_cascade.definition.limits import MAX_ALIAS_GROWTH, MAX_DEPTH
from celery_cascade.definition.nodes import Entry, Mapping, Node, Scalar, Sequence, Value
from celery_cascade.definition.places import Text
from celery_cascade.definition.yaml_errors import explained
from celery_cascade.words import shown, suggestion

_Loader: Any = getattr(yaml, "CSafeLoader", yaml.SafeLoader)  # with libyaml ten times faster, the marks the same
_TAGS = {
    "scalar": frozenset({"str", "int", "float", "bool", "null"}),
    "sequence": frozenset({"seq"}),
    "mapping": frozenset({"map"}),
}


def read(text: Text, doubts: list[tuple[int, str]]) -> Node:
    """The one document in `text`; what reads otherwise than it looks is added to `doubts`.

    Raises:
        DefinitionError: with file, line and column.
    """
    try:
        loader = _Loader(text.content)
        try:
            return _Composer(text, loader, doubts).document()
        finally:
            loader.dispose()
    except yaml.YAMLError as error:
        raise explained(text, error) from error
    except (ValueError, OverflowError) as error:  # the parser in Python, on "\\UFFFFFFFF"
        raise text.error(0, f"not well-formed YAML: {error}") from error


class _Composer:
    def __init__(self, text: Text, loader: Any, doubts: list[tuple[int, str]]) -> None:
        self._text = text
        self._loader = loader
        self._doubts = doubts
        self._anchors: dict[str, Node | None] = {}  # None while the anchored value is still open
        self._growth = 0
        self._words: dict[str, tuple[Value, str | None]] = {}

    def document(self) -> Node:
        self._next()  # the stream starts
        if isinstance(self._next(), yaml.StreamEndEvent):
            raise self._text.error(0, "the file is empty; it must hold a cascade")
        root = self._node(self._next(), 0)
        self._next()  # the document ends
        after = self._next()
        if not isinstance(after, yaml.StreamEndEvent):
            raise self._text.error(_at(after), "a second document starts here; one file holds one cascade")
        return root

    def _next(self) -> Any:
        return self._loader.get_event()

    def _node(self, event: Any, depth: int) -> Node:
        if isinstance(event, yaml.AliasEvent):
            return self._alias(event, depth)
        if event.anchor is not None:
            self._anchors[event.anchor] = None
        node = self._new_node(event, depth)
        if event.anchor is not None:
            self._anchors[event.anchor] = node
        return node

    def _new_node(self, event: Any, depth: int) -> Node:
        if isinstance(event, yaml.ScalarEvent):
            return self._scalar(event)
        if depth >= MAX_DEPTH:
            raise self._text.error(_at(event), f"nested deeper than {MAX_DEPTH} levels")
        if isinstance(event, yaml.SequenceStartEvent):
            self._tag(event, "sequence")
            return self._sequence(event, depth)
        self._tag(event, "mapping")
        return self._mapping(event, depth)

    def _sequence(self, start: Any, depth: int) -> Sequence:
        node = Sequence(_at(start))
        while not isinstance(event := self._next(), yaml.SequenceEndEvent):
            node.append(self._node(event, depth + 1))
        return node

    def _mapping(self, start: Any, depth: int) -> Mapping:
        own: dict[str, Entry] = {}
        merged: list[Node] = []
        while not isinstance(event := self._next(), yaml.MappingEndEvent):
            key, is_merge = self._key(event)
            value = self._node(self._next(), depth + 1)
            if is_merge:
                merged.append(value)
                continue
            if key in own:
                first, _ = self._text.place(own[key].offset)
                raise self._text.error(_at(event), f"the key {shown(key)} appears twice, first in line {first}")
            own[key] = Entry(_at(event), value)
        node = Mapping(_at(start))
        for key, entry in {**self._merged(merged), **own}.items():
            node.put(key, *entry)
        return node

    def _merged(self, values: list[Node]) -> dict[str, Entry]:
        """What `<<` brings; of two that bring the same key the first one counts."""
        found: dict[str, Entry] = {}
        for value in values:
            for one in value.items if isinstance(value, Sequence) else [value]:
                if not isinstance(one, Mapping):
                    raise self._text.error(one.offset, "<< takes a mapping, or a list of mappings")
                for key, entry in one.entries.items():
                    found.setdefault(key, entry)
        return found

    def _key(self, event: Any) -> tuple[str, bool]:
        """The text of a key as written, and whether it is the merge key."""
        if isinstance(event, yaml.AliasEvent):
            node = self._alias(event, 0)
            if isinstance(node, Scalar):
                return node.written, False
        if not isinstance(event, yaml.ScalarEvent):
            is_template = self._text.content.startswith("{", max(0, _at(event) - 1)) and isinstance(
                event, yaml.MappingStartEvent
            )
            cure = 'put a template in quotes: "{{ … }}"' if is_template else "a list or mapping cannot be one"
            raise self._text.error(_at(event), f"a key must be text; {cure}")
        if event.tag not in (None, "!", scalars.PREFIX + "str"):
            raise self._text.error(_at(event), f"a key is always text; leave the tag {shown(event.tag)} out")
        if event.anchor is not None:
            self._anchors[event.anchor] = Scalar(_at(event), event.value, event.value)
        plain = event.implicit[0] and event.tag is None
        return event.value, plain and event.value == "<<"

    def _scalar(self, event: Any) -> Scalar:
        tag = self._tag(event, "scalar")
        value, doubt = event.value, None
        try:
            if tag is not None:
                value = scalars.construct(self._loader, tag, value)
            elif event.implicit[0]:
                value, doubt = self._plain(value)
        except ValueError as error:
            raise self._text.error(_at(event), f"{shown(event.value)} {error}") from error
        if isinstance(value, str) and not _is_unicode(value):
            raise self._text.error(_at(event), "text with a lone surrogate, which UTF-8 cannot hold")
        if doubt:
            self._doubts.append((_at(event), doubt))
        return Scalar(_at(event), value, event.value)

    def _plain(self, word: str) -> tuple[Value, str | None]:
        """What a plain word reads as, and the doubt about it; words come again and again."""
        found = self._words.get(word)
        if found is None:
            tag = scalars.implicit_tag(self._loader, word)
            value = scalars.construct(self._loader, tag, word)
            found = self._words[word] = value, scalars.doubt(tag, word, value)
        return found

    def _tag(self, event: Any, kind: str) -> str | None:
        """The short name of an explicit tag, None without one."""
        if event.tag is None or event.tag == "!":
            return None
        short = str(event.tag).removeprefix(scalars.PREFIX)
        if short not in _TAGS[kind] or short == event.tag:
            raise self._text.error(_at(event), f"the tag {shown(event.tag)} is not allowed; write a plain {kind}")
        return short

    def _alias(self, event: Any, depth: int) -> Node:
        name = event.anchor
        if name not in self._anchors:
            raise self._text.error(_at(event), f"no anchor &{name} before this alias{suggestion(name, self._anchors)}")
        node = self._anchors[name]
        if node is None:
            raise self._text.error(_at(event), f"*{name} stands inside its own anchor, so it would hold itself")
        self._growth += node.size
        if self._growth > MAX_ALIAS_GROWTH:
            raise self._text.error(_at(event), "the aliases of this file grow it beyond measure; write less of them")
        if depth + node.height > MAX_DEPTH:
            raise self._text.error(_at(event), f"nested deeper than {MAX_DEPTH} levels by the alias *{name}")
        return node


def _is_unicode(value: str) -> bool:
    if value.isascii():
        return True
    try:
        value.encode()
    except UnicodeEncodeError:
        return False
    return True


def _at(event: Any) -> int:
    return int(event.start_mark.index)
