"""Einstein summation, as np.einsum.

Every rule is first rewritten without dots and repeated letters, for which the derivative is again a single einsum.
"""

from __future__ import annotations

import string
from collections.abc import Sequence

import numpy as np

from dbp.autodiff.primitives.shapes import broadcast_to, reshape, sum_
from dbp.autodiff.tensor import Primitive, ShapeError, Value, array_of


def _cotangent(i: int, g: Value, xs: Sequence[Value], rule: str) -> Value:
    """Multiply g by the other inputs, sum over the letters that input i lacks, and broadcast to its shape."""
    terms, _, output = rule.partition("->")
    subscripts, lengths = terms.split(","), np.shape(xs[i])
    others = [*subscripts[:i], *subscripts[i + 1 :]]
    letters = [x for x in subscripts[i] if x in output or any(x in other for other in others)]
    part = _plain(*xs[:i], *xs[i + 1 :], g, rule=f"{','.join([*others, output])}->{''.join(letters)}")
    found = dict(zip(letters, np.shape(part), strict=True))
    shape = tuple(found.get(x, 1) for x in subscripts[i])
    stretched = tuple(k for k, n in enumerate(lengths) if n == 1 and shape[k] != 1)  # by broadcasting
    total = sum_(reshape(part, shape=shape), axis=stretched, keepdims=True)
    return broadcast_to(total, shape=lengths)


_plain: Primitive = Primitive(  # of a rule with an output and no letter twice in a term
    "einsum",
    lambda *xs, rule: np.einsum(rule, *xs, optimize=len(xs) > 2),
    reverse=lambda i, g, y, *xs, rule: _cotangent(i, g, xs, rule),
    forward=lambda i, t, y, *xs, rule: _plain(*xs[:i], t, *xs[i + 1 :], rule=rule),
)


def einsum(*xs: Value, rule: str) -> Value:
    """Return the Einstein summation of any number of inputs: 'ij,jk->ik', 'ii', '...i,i->...'.

    Raises:
        ShapeError: the rule does not fit the shapes of the inputs.
    """
    terms, output = _written_out(rule.replace(" ", ""), [np.shape(x) for x in xs])
    inputs, terms = _without_diagonals(xs, terms)
    return _plain(*inputs, rule=f"{','.join(terms)}->{output}")


def _written_out(rule: str, shapes: Sequence[tuple[int, ...]]) -> tuple[list[str], str]:
    """Return the terms of a rule and its output, with letters for dots; ShapeError if they do not fit the shapes."""
    left, arrow, output = rule.partition("->")
    terms, given = left.split(","), f"einsum of shapes {' and '.join(map(str, shapes))} by {rule!r}"
    if len(terms) != len(shapes):
        raise ShapeError(f"{given}: the rule has {len(terms)} terms for {len(shapes)} inputs")
    beyond = [len(shape) - len(term.replace("...", "")) for shape, term in zip(shapes, terms, strict=True)]
    for term, shape, n in zip(terms, shapes, beyond, strict=True):
        if n < 0 or (n and "..." not in term):
            raise ShapeError(f"{given}: the term {term!r} does not fit the {len(shape)} axes of {shape}")
    dots = [x for x in string.ascii_letters if x not in rule][: max(beyond)]
    if not arrow:
        output = "..." * ("..." in left) + "".join(sorted(x for x in set(left) - {*",."} if left.count(x) == 1))
    output = output.replace("...", "".join(dots))
    if len(set(output)) < len(output) or not set(output) <= {*left, *dots} - {*",."}:
        raise ShapeError(f"{given}: the output must be letters of the inputs, each once")
    return [term.replace("...", "".join(dots[len(dots) - n :])) for term, n in zip(terms, beyond, strict=True)], output


def _without_diagonals(xs: Sequence[Value], terms: Sequence[str]) -> tuple[list[Value], list[str]]:
    """Return inputs and terms with no letter twice in a term: 'ii' becomes 'ij,ij' with an identity matrix."""
    inputs, plain = list(xs), list(terms)
    unused = iter(x for x in string.ascii_letters if x not in "".join(terms))
    for i, (x, term) in enumerate(zip(xs, terms, strict=True)):
        for axis, letter in enumerate(term):
            if letter in plain[i][:axis]:
                new = next(unused)
                plain[i] = plain[i][:axis] + new + plain[i][axis + 1 :]
                plain.append(letter + new)
                inputs.append(np.eye(np.shape(x)[axis], dtype=array_of(x).dtype))
    return inputs, plain
