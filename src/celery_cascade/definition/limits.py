"""How much a definition may ask for, in one place. Each bound is far above what people write."""

from __future__ import annotations

MAX_DEPTH = 64  #: levels of mappings and lists; published files have up to 8
MAX_ALIAS_GROWTH = 4 * 1024 * 1024  #: characters that aliases may add to a document when they are written out
MAX_DIGITS = 400  #: characters of one number; the largest float has 309 before the point
MAX_STEPS = 10_000
MAX_SCHEMA_VALUES = 2_000  #: values in all input schemas together: checking one costs up to a millisecond
MAX_SCHEMA_DEPTH = 16
MAX_WARNINGS = 100

MAX_EXPRESSION = 4_096  #: characters between `{{` and `}}`
MAX_EXPRESSION_DEPTH = 60  #: nested operators, filters and brackets
MAX_BRACKETS = 20  #: open brackets; the parser takes a dozen Python frames for each
MAX_BITS = 128  #: bits of a whole number that an expression makes; larger ones mean nothing to most readers of JSON
MADE_AT_LEAST = 1024 * 1024  #: characters and values that one render may make whatever its context holds,
MADE_PER_CONTEXT = 8  #: and how often the size of its context
