"""The name and the source of the user's functions and classes, by which a run tells whether they have changed."""

from __future__ import annotations

import ast
import hashlib
import linecache
from collections.abc import Callable, Iterator
from types import CodeType
from typing import Any


def name_of(code: Any) -> str:
    """Return the name of a function, a class or an object of a class of the user's."""
    own = getattr(code, "func", code)  # of a functools.partial
    return str(getattr(own, "__qualname__", type(own).__qualname__)).rpartition("<locals>.")[2]


def digest_of_source(function: Callable[..., Any]) -> str:
    """Return a SHA-256 of a function's source without comments and spaces, or of its bytecode if there is none."""
    own = getattr(function, "func", function)
    code = getattr(own, "__code__", None) or getattr(type(own).__call__, "__code__", None)
    if code is None:  # of a language other than Python
        return hashlib.sha256(name_of(function).encode()).hexdigest()
    return hashlib.sha256((_source(code) or _bytecode(code)).encode()).hexdigest()


def _source(code: CodeType) -> str:
    """Return the source of a function as Python writes it again, without anything around it; "" if it is not known."""
    lines = linecache.getlines(code.co_filename)
    try:
        nodes = [*_functions(ast.parse("".join(lines)), code)]
    except (SyntaxError, ValueError):
        return ""
    if len(nodes) > 1:  # on one line: the one whose columns hold the function's instructions
        columns = [start for _, _, start, _ in code.co_positions() if start]
        nodes = [n for n in nodes if columns and n.col_offset <= min(columns) <= (n.end_col_offset or 0)][-1:]
    return ast.unparse(nodes[0]) if nodes else ""


def _functions(tree: ast.AST, code: CodeType) -> Iterator[ast.Lambda | ast.FunctionDef]:
    """Yield the functions of a module that begin where a function's code does, decorators included."""
    for node in ast.walk(tree):
        if isinstance(node, ast.Lambda) and code.co_name == "<lambda>" and node.lineno == code.co_firstlineno:
            yield node
        elif isinstance(node, ast.FunctionDef) and node.name == code.co_name:
            lines = [node.lineno, *(decorator.lineno for decorator in node.decorator_list)]
            if min(lines) == code.co_firstlineno:
                yield node


def _bytecode(code: CodeType) -> str:
    inner = [_bytecode(c) if isinstance(c, CodeType) else repr(c) for c in code.co_consts]
    return f"{code.co_code.hex()} {code.co_names} {inner}"
