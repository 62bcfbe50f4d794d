"""CEL (github.com/google/cel-spec, without protobuf): compiled once, evaluated on plain trees that are never copied."""

from esb.expressions.cases import Cases, Choice
from esb.expressions.environment import Environment
from esb.expressions.explain import Leaf, Trace
from esb.expressions.program import Program
from esb.expressions.syntax import ExpressionProblems, Finding
from esb.expressions.templates import TemplateProgram
from esb.expressions.values import NONE, Moment, Optional, Span, Uint

__all__ = [
    "NONE",
    "Cases",
    "Choice",
    "Environment",
    "ExpressionProblems",
    "Finding",
    "Leaf",
    "Moment",
    "Optional",
    "Program",
    "Span",
    "TemplateProgram",
    "Trace",
    "Uint",
]
