"""Arrays in memory that processes share."""

import os

import numpy as np
import pytest

from otoscope.bank._shared_arrays import Placed, SharedArrays

ARRAYS = [
    np.arange(6, dtype=np.int64).reshape(2, 3),
    np.asfortranarray(np.linspace(0, 1, 12, dtype=np.float32).reshape(3, 4)),
    np.arange(20, dtype=np.int16)[::2],
    np.array(3.5),
]


def test_arrays_of_another_process_are_read():
    shared = SharedArrays(slots=1, slot_bytes=4096)
    slot = shared.take()
    here, there = os.pipe()
    process = os.fork()
    if process == 0:
        os.write(there, repr([tuple(shared.put(array, slot)) for array in ARRAYS]).encode())
        os._exit(0)
    os.waitpid(process, 0)
    places = eval(os.read(here, 4096))
    for array, place in zip(ARRAYS, places, strict=True):
        read = shared.get(Placed(*place))
        assert (read.dtype, read.shape, read.tolist()) == (array.dtype, array.shape, array.tolist())
        assert read.flags.owndata or read.base.flags.owndata  # a copy, because the slot is used again


def test_an_array_that_does_not_fit_is_returned_as_it_is():
    shared = SharedArrays(slots=2, slot_bytes=128)
    slot, other = shared.take(), shared.take()
    assert shared.take() is None
    first = shared.put(np.ones(10), slot)
    second, empty, large, fitting = np.zeros(8), np.ones(0), np.ones(17), np.ones(16)
    assert shared.put(second, slot) is second  # 64 bytes after the first one, which takes 128
    assert shared.put(empty, other) is empty
    assert shared.put(large, other) is large
    assert shared.put(second, None) is second
    assert isinstance(shared.put(fitting, other), Placed)
    assert shared.get(large) is large
    assert shared.get(first).tolist() == 10 * [1.0]


@pytest.mark.parametrize("slots", [0, 3])
def test_a_slot_that_is_given_back_is_taken_again(slots):
    shared = SharedArrays(slots=slots, slot_bytes=64)
    for _ in range(2):
        taken = [shared.take() for _ in range(slots + 1)]
        assert sorted(slot.start for slot in taken[:-1]) == [64 * number for number in range(slots)]
        assert taken[-1] is None
        for slot in taken:
            shared.give_back(slot)
