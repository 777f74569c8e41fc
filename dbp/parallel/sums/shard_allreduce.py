"""Sums over all shards in the middle of their passes: a shard waits in sum() until all others have come to it too.

The shards of a rank are coroutines: one computes until it comes to a sum, then the next does. When the last one has
come there, ranks add up the arrays of all shards along the tree, so that the bits do not depend on the ranks. The last
shard of a rank runs in the calling thread, which alone communicates; each other shard has a thread that waits for its
turn, since passes lead through functions of the user.
"""

from __future__ import annotations

import zlib
from collections.abc import Callable, Iterator, Sequence
from functools import partial
from typing import Any, NamedTuple, NoReturn, TypeVar

import numpy as np

from dbp.errors import UserError
from dbp.parallel.ranks.clock import Stage
from dbp.parallel.ranks.comm import Communicator
from dbp.parallel.shards import Shards
from dbp.parallel.sums.coroutine_thread import DONE, CancelledPassError, CoroutineThread
from dbp.parallel.sums.plain_sum import PlainSum
from dbp.types import Array

Result = TypeVar("Result")


class _Request(NamedTuple):
    """What a shard, or all shards of a rank, have come to.

    Args:
        length: of the array to sum, in elements; or a negative number: one of those below.
        label: a checksum of the label of the sum.
    """

    length: int
    label: int = 0


ABSENT, ENDED, CONFLICT = _Request(-1), _Request(-2), _Request(-3)  # ABSENT: has not come to any sum


class ShardAllreduce:
    """Sums over all shards of all ranks, used again and again by passes that run() starts.

    Args:
        comm: the ranks.
        shards: who computes which shard.
    """

    def __init__(self, comm: Communicator, shards: Shards):
        self._comm, self._shards = comm, shards
        self._threads: list[CoroutineThread] = []  # of all shards of this rank but the last, from the first run() on
        self._requests: dict[int, _Request] = {}  # of this rank's shards, by number
        self._arrays: dict[int, Array] = {}  # float64, flat, of the shards that wait in a sum
        self._active = -1  # the shard that has the turn
        self._total = np.empty(0)
        self._sums: dict[int, PlainSum] = {}  # by length
        self._sent, self._received = np.zeros(2, np.int64), np.zeros((comm.size, 2), np.int64)

    def run(self, function: Callable[[int], Result]) -> Iterator[tuple[int, Result]]:
        """Call a function for each shard of this rank, in which sum() may be called; yield its results; collective.

        Args:
            function: computes the result of a shard, given its number. All shards, on all ranks, must call sum() the
                same number of times, with arrays of the same lengths, or not at all: such a shard adds zeros.
        """
        results: dict[int, Result] = {}

        def compute(number: int) -> None:
            results[number] = function(number)

        self._run(compute)
        for number in self._shards.mine:
            yield number, results.pop(number)

    def _run(self, compute: Callable[[int], None]) -> None:
        numbers = self._shards.mine
        self._threads = self._threads or [CoroutineThread() for _ in numbers[:-1]]
        self._requests = dict.fromkeys(numbers, ABSENT)
        try:
            for thread, number in zip(self._threads, numbers, strict=False):
                self._let(number, thread, partial(compute, number))
            if numbers:
                self._active = numbers[-1]
                compute(numbers[-1])
                self._end(numbers[-1])
            while self._add_up():
                self._proceed_with_others()
        except BaseException as error:
            self._cancel()
            if isinstance(error, CancelledPassError):
                self._raise_error_of_thread()
            raise
        finally:
            self._arrays.clear()

    def sum(self, array: Any, label: str) -> Array:
        """Return the sum of an array over all shards, a new array of its shape and type; called within run().

        Args:
            array: of any shape; it is added up in float64.
            label: names the sum, so that shards which come to different ones are found.
        """
        array, number, clock = np.asarray(array), self._active, self._comm.clock
        stage = clock.current
        self._requests[number] = _Request(array.size, zlib.crc32(label.encode()))
        self._arrays[number] = array.astype(np.float64).reshape(-1)
        position = number - self._shards.mine.start
        if position < len(self._threads):
            self._threads[position].pause()
            total = self._total.astype(array.dtype)
        else:
            self._add_up()
            total = self._total.astype(array.dtype)
            self._proceed_with_others()
        self._active = number
        clock.enter(stage)
        return total.reshape(array.shape)

    def free(self) -> None:
        """End the threads; not to be called within run()."""
        for thread in self._threads:
            thread.end()
        self._threads = []

    # --- turns ------------------------------------------------------------------------------------------

    def _let(self, number: int, thread: CoroutineThread, function: Callable[[], None] | None = None) -> None:
        """Let a shard begin with a function, or proceed, until it comes to a sum or ends."""
        self._active = number
        if function is not None:
            thread.begin(function)
        else:
            thread.proceed()
        if thread.error is not None:
            raise CancelledPassError
        if thread.state == DONE:
            self._end(number)

    def _end(self, number: int) -> None:
        if self._requests[number] != ABSENT:
            self._requests[number] = ENDED

    def _proceed_with_others(self) -> None:
        """Let all shards that wait in threads proceed to the next sum, or to their ends."""
        for thread, number in zip(self._threads, self._shards.mine, strict=False):
            if thread.state != DONE:
                self._let(number, thread)

    def _cancel(self) -> None:
        for thread in self._threads:
            thread.cancel()

    def _raise_error_of_thread(self) -> NoReturn:
        """Raise the exception that has ended a shard."""
        raise next(thread.error for thread in self._threads if thread.error is not None)

    # --- sums over ranks --------------------------------------------------------------------------------

    def _add_up(self) -> bool:
        """Sum the arrays of all shards; return False if all have ended instead; collective."""
        clock = self._comm.clock
        clock.enter(Stage.SUM)
        agreed = self._agree(_common(list(self._requests.values())))
        if agreed.length < 0:
            return False
        if agreed.length not in self._sums:
            self._sums[agreed.length] = PlainSum(self._comm, self._shards, 0, np.float64, agreed.length)
        plain_sum = self._sums[agreed.length]
        tree = plain_sum.start()
        for number in self._shards.mine:
            sums = plain_sum.buffer()
            sums.scalars[:] = self._arrays.pop(number, 0)
            tree.push(0, number, sums)
        self._total = plain_sum.total(tree).scalars
        return True

    def _agree(self, mine: _Request) -> _Request:
        """Return what all ranks have come to, ENDED if no shard needs a sum; collective.

        Raises:
            UserError: they have not come to the same sum; raised on all ranks.
        """
        self._sent[:] = mine
        sent, received = self._sent.view(np.uint8), self._received.reshape(-1).view(np.uint8)
        self._comm.gather_bytes(sent, received, [self._sent.nbytes] * self._comm.size)
        agreed = _common([_Request(*of_rank) for of_rank in self._received.tolist()])
        if agreed == CONFLICT:
            error = UserError(
                'the shards of a mini-batch do not use the same layers with statistics = "batch", in the same order, '
                "so that they cannot be normalized together; let the model do the same for all examples"
            )
            error.on_all_ranks = True
            raise error
        return agreed


def passes(
    shards: Shards, function: Callable[[int], Result], allreduce: ShardAllreduce | None = None
) -> Iterator[tuple[int, Result]]:
    """Call a function for each shard of this rank, and yield their numbers with the results, in order.

    Args:
        shards: who computes which shard.
        function: computes the result of a shard, given its number.
        allreduce: makes all shards, of all ranks, compute at once, so that they can sum over each other, and the
            iteration collective; None for one shard after the other.
    """
    if allreduce is not None:
        return allreduce.run(function)
    return ((number, function(number)) for number in shards.mine)


def _common(requests: Sequence[_Request]) -> _Request:
    """Return what all have come to but those that are absent; CONFLICT if that differs."""
    found = set(requests) - {ABSENT}
    if not found:
        return ABSENT
    return found.pop() if len(found) == 1 else CONFLICT
