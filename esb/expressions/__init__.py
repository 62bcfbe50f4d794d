"""CEL (github.com/google/cel-spec, without protobuf): compiled once, evaluated on plain trees that are never copied."""

from esb.expressions.cases import Cases, Choice
from esb.expressions.programs import Environment, Program
from esb.expressions.syntax import ExpressionProblems, Finding
from esb.expressions.templates import TemplateProgram
from esb.expressions.trace import Leaf, Trace
from esb.expressions.values import NONE, Optional, Uint

__all__ = [
    "NONE",
    "Cases",
    "Choice",
    "Environment",
    "ExpressionProblems",
    "Finding",
    "Leaf",
    "Optional",
    "Program",
    "TemplateProgram",
    "Trace",
    "Uint",
]
