"""The check of the numbers that layers refuse in their inputs, such as entries of an embedding, without weights."""

from __future__ import annotations

import contextlib
from typing import Any, NoReturn

import numpy as np

from dbp.nn.call import Call, InputsCheckedError, masks_of, masks_with_fill
from dbp.nn.scope import Model, Scope
from dbp.types import Arrays


def check_inputs(model: Model, inputs: Arrays, mask: Arrays | None, checks: int) -> int:
    """Raise UserError if a layer of a model refuses the numbers of some inputs; return how many layers have looked.

    The model is called up to its first parameter. Layers that check their inputs return zeros without parameters, so
    that those beside them check theirs too.

    Args:
        model: a layer, or a function model(scope, inputs).
        inputs: some examples, an array or arrays by name, in the type and units of the model.
        mask: which positions of the inputs hold data, or masks by name; None if all do.
        checks: how many layers check their inputs, see InitialParameters.
    """
    call = Call(_end, _end, most_input_checks=checks, **masks_of(masks_with_fill(mask)))
    with contextlib.suppress(InputsCheckedError), np.errstate(all="ignore"):
        model(Scope(call), inputs)
    return len(call.input_checks)


def _end(*_: Any) -> NoReturn:
    raise InputsCheckedError
