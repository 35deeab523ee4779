"""Extractions in forked processes that are killed; the functions run in an interpreter with one thread."""

import contextlib
import json
import os
import random
import signal
import time
from functools import partial
from pathlib import Path

import torch
from safetensors.torch import save, save_file

from helpers_banks import VARIED, Sounds, Toy, extract_quietly, subclass_with
from otoscope import bank as banks
from otoscope.bank import _shard as shard


def slow_front_end(encoder, batch):
    time.sleep(0.002)
    return Toy.front_end(encoder, batch)


Slow = subclass_with(Toy, front_end=slow_front_end)
MANY = partial(Sounds, counts=(41, 9, 10), lengths=VARIED)


def start_process(path, kill_in_shard=None):
    """Extract in a forked process; `kill_in_shard` is the number of the shard in the middle of which it is killed."""
    pid = os.fork()
    if pid == 0:
        if kill_in_shard is not None:
            shard.save_file = partial(write_half_and_kill, iter(range(kill_in_shard)))
        with contextlib.suppress(BaseException):
            extract_quietly(Slow(), MANY(), path)
            os._exit(0)
        os._exit(1)
    return pid


def write_half_and_kill(countdown, tensors, file, metadata):
    if next(countdown, None) is not None:
        return save_file(tensors, file, metadata)
    Path(file).write_bytes(save(tensors, metadata)[:-9])
    return os.kill(os.getpid(), signal.SIGKILL)


def kill_at_random(path):
    """Start extractions into five folders and kill each at random times; print how many shards each had written."""
    torch.set_num_threads(1)
    start = time.monotonic()
    extract_quietly(Slow(), MANY(), f"{path}/timed")
    duration, rng, shard_counts, ends = time.monotonic() - start, random.Random(0), [], []
    for folder in (f"{path}/{i}" for i in range(5)):
        for _ in range(4):
            pid = start_process(folder)
            time.sleep(rng.uniform(0, 0.6 * duration))
            os.kill(pid, signal.SIGKILL)
            os.waitpid(pid, 0)
            shards = len(list(Path(folder).glob("*/shard-*")))
            with contextlib.suppress(banks.BankError):
                banks.open(folder)
                shards = "open"
            shard_counts.append(shards)
        os.waitpid(start_process(folder, kill_in_shard=0), 0)
        pids = [start_process(folder), start_process(folder)]  # two at once: one waits for the other
        ends += [os.waitpid(pid, 0)[1] for pid in pids]
    os.waitpid(start_process(f"{path}/midway", kill_in_shard=7), 0)
    midway = sorted(str(file.relative_to(f"{path}/midway")) for file in Path(f"{path}/midway").rglob("*shard-*"))
    try:
        banks.open(f"{path}/midway")
    except banks.BankError as error:
        print(json.dumps({"shard_counts": shard_counts, "ends": ends, "midway": midway, "error": type(error).__name__}))
