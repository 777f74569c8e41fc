"""Sums over all shards in the middle of their passes: a shard waits in sum() until all others have come to it too.

The shards of a rank are coroutines: one computes until it comes to a sum, then the next does. When the last one has
come there, ranks add up the arrays of all shards along the tree, so that the bits do not depend on the ranks. The last
shard of a rank runs in the calling thread, which alone communicates; each other shard has a thread that waits for its
turn, since passes lead through functions of the user.

A rank need not know what others come to, as an idle one does not: each message begins with what the shards of its
sender have come to. All ranks guess that it is what they came to at this point of the last pass, and send what they add
along with it; if the guess was wrong, they send it in a second message.
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
from dbp.parallel.sums.summation_tree import TreeSum, branches_of
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
HEAD = 2  # numbers of 8 bytes before the sums of a message: a request


class _Messages:
    """The memory for a message of each rank: what its shards have come to, and their sums.

    Args:
        comm: the ranks.
        shards: who computes which shard.
        length: of a sum, in elements.
    """

    def __init__(self, comm: Communicator, shards: Shards, length: int):
        self._comm = comm
        branches = [branches_of(shards.of_rank(rank)) for rank in range(shards.ranks)]
        counts = [HEAD + length * len(of_rank) for of_rank in branches]
        self._bytes = [8 * count for count in counts]
        self._sent, self._received = np.zeros(counts[shards.rank]), np.zeros(sum(counts))
        self._requests, self._parts = [], list[tuple[int, int, Array]]()
        for of_rank, own in zip(branches, np.split(self._received, np.cumsum(counts)[:-1]), strict=True):
            self._requests.append(own[:HEAD].view(np.int64))
            sums = own[HEAD:].reshape(len(of_rank), length)
            self._parts += [(*branch, part) for branch, part in zip(of_rank, sums, strict=True)]

    def exchange(self, mine: _Request, sums: Sequence[Array]) -> tuple[_Request, Array]:
        """Return what all ranks have come to, and the sum over all shards; collective.

        Args:
            mine: what the shards of this rank have come to.
            sums: of this rank's shards, as far as the tree allows; none for zeros.
        """
        self._sent[:HEAD].view(np.int64)[:] = mine
        self._sent[HEAD:] = np.concatenate(sums) if sums else 0
        self._comm.gather_bytes(self._sent.view(np.uint8), self._received.view(np.uint8), self._bytes)
        tree: TreeSum[Array] = TreeSum()
        for part in self._parts:
            tree.push(*part)
        return _common([_Request(*request.tolist()) for request in self._requests]), tree.total()


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
        self._messages: dict[int, _Messages] = {}  # by length of the sums
        self._guesses: list[_Request] = []  # what all came to in the last passes, by the index of the sum
        self._sums_begun = 0  # in the present pass

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
        self._requests, self._sums_begun = dict.fromkeys(numbers, ABSENT), 0
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
        """Sum the arrays of all shards; return False if all have ended instead; collective.

        Raises:
            UserError: shards have not come to the same sum; raised on all ranks.
        """
        self._comm.clock.enter(Stage.SUM)
        mine, self._sums_begun = _common(list(self._requests.values())), self._sums_begun + 1
        self._guesses += [ENDED] * (self._sums_begun - len(self._guesses))
        guess = self._guesses[self._sums_begun - 1]
        agreed, self._total = self._exchange(mine, guess)
        if agreed == CONFLICT:
            raise _conflict()
        if agreed not in (guess, ABSENT):
            self._guesses[self._sums_begun - 1] = agreed
            if agreed != ENDED:
                _, self._total = self._exchange(mine, agreed)
        self._arrays.clear()
        return agreed.length >= 0

    def _exchange(self, mine: _Request, guess: _Request) -> tuple[_Request, Array]:
        """Return what all shards have come to, and the sum of their arrays if it is what was guessed; collective."""
        length = max(guess.length, 0)
        if length not in self._messages:
            self._messages[length] = _Messages(self._comm, self._shards, length)
        tree: TreeSum[Array] = TreeSum()
        if mine == guess:
            for number in self._shards.mine:
                tree.push(0, number, self._arrays[number] if number in self._arrays else np.zeros(length))
        return self._messages[length].exchange(mine, [part for *_, part in tree.branches])


def _conflict() -> UserError:
    """Return the error for shards that have not come to the same sum."""
    error = UserError(
        'the shards of a mini-batch do not use the same layers with statistics = "batch", in the same order, so that '
        "they cannot be normalized together; let the model do the same for all examples"
    )
    error.on_all_ranks = True
    return error


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
