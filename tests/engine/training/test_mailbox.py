"""Processes on one machine exchange small tensors through shared memory, in order and without loss."""

from __future__ import annotations

import multiprocessing
import random
import time
from pathlib import Path

import torch

from taomagic.engine.training import mailbox


def _talk(path: str, rank: int, size: int, rounds: int, answers: multiprocessing.Queue) -> None:
    box = mailbox.Mailbox(path, rank, size)
    generator = random.Random(rank)
    wrong = 0
    for number in range(rounds):
        if generator.random() < 0.01:
            time.sleep(0.002)  # now this one is late, now another
        count = 1 + number % 300
        got = box.exchange(torch.full((count,), float(rank * rounds + number)))
        expected = torch.tensor([float(other * rounds + number) for other in range(size)])
        wrong += not torch.equal(got, expected[:, None].expand(size, count))
    answers.put(wrong)


def test_every_message_reaches_every_process_in_its_turn():
    size, rounds = 3, 2000
    path = mailbox.create(size)
    context = multiprocessing.get_context("fork")
    answers = context.Queue()
    processes = [
        context.Process(target=_talk, args=(path, rank, size, rounds, answers)) for rank in range(size)
    ]
    for process in processes:
        process.start()
    wrong = [answers.get(timeout=60) for _ in processes]
    for process in processes:
        process.join(10)
    Path(path).unlink()
    assert wrong == [0, 0, 0]


def test_it_is_for_processes_of_one_machine(monkeypatch):
    monkeypatch.setattr(mailbox.platform, "machine", lambda: "x86_64")
    monkeypatch.setenv("WORLD_SIZE", "4")
    monkeypatch.setenv("LOCAL_WORLD_SIZE", "2")
    assert not mailbox.is_possible()
    monkeypatch.setenv("LOCAL_WORLD_SIZE", "4")
    assert mailbox.is_possible()
    monkeypatch.setattr(mailbox.platform, "machine", lambda: "aarch64")
    assert not mailbox.is_possible()
