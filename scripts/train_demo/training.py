"""What the training scripts share: two ranks, checkpoints that survive a kill, moving averages, the loop.

Training is data parallel over two processes of one thread each, which meet once per step to average
gradients. Two threads in one process would meet at every operator, and on a machine that also does other
work each such meeting waits for the slower thread.
"""

import argparse
import os
import socket
import time
from contextlib import contextmanager
from pathlib import Path

import torch
import torch.distributed as dist
import torch.multiprocessing as multiprocessing
from torch.nn.attention import SDPBackend, sdpa_kernel

RANKS = 2


def launch(worker, *arguments):
    """Runs `worker(rank, *arguments)` in RANKS processes that can average gradients."""
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        port = probe.getsockname()[1]
    multiprocessing.spawn(_enter, (worker, port, arguments), nprocs=RANKS)


def launch_by_arguments(worker, description, steps):
    """Runs `worker(rank, work_dir, steps)` as the command line says; `steps` where it says nothing of them."""
    parser = argparse.ArgumentParser(description=description)
    parser.add_argument("--work-dir", required=True)
    parser.add_argument("--steps", type=int, default=steps)
    arguments = parser.parse_args()
    launch(worker, arguments.work_dir, arguments.steps)


def _enter(rank, worker, port, arguments):
    torch.set_num_threads(1)
    address = f"tcp://127.0.0.1:{port}"
    dist.init_process_group("gloo", init_method=address, rank=rank, world_size=RANKS)
    try:
        worker(rank, *arguments)
    finally:
        dist.destroy_process_group()


def step_generator(seed, step, rank):
    """Random numbers addressed by (seed, step, rank), so that a resumed run draws what an unbroken one does."""
    return torch.Generator().manual_seed(seed * 1_000_000_007 + step * RANKS + rank)


def average_gradients(parameters):
    """Replaces each gradient by its mean over ranks; every rank then takes the same optimizer step.

    Parameters outside the graph (the first text encoder's last layer, which SDXL never reads) have none.
    """
    gradients = [parameter.grad for parameter in parameters if parameter.grad is not None]
    flat = torch.cat([gradient.reshape(-1) for gradient in gradients])
    dist.all_reduce(flat)
    flat /= RANKS
    for gradient, part in zip(gradients, flat.split([gradient.numel() for gradient in gradients])):
        gradient.copy_(part.view_as(gradient))


@contextmanager
def mixed_precision():
    """bfloat16 autocast: on CPUs with AVX512-BF16 it trains these networks about 1.4 times as fast.

    Attention is computed by plain matrix products: the fused kernel's backward is slow in bfloat16.
    """
    with torch.autocast("cpu", dtype=torch.bfloat16), sdpa_kernel(SDPBackend.MATH):
        yield


def save_atomically(state, path):
    """Writes a checkpoint so that a kill leaves the old one or the new one, never half a file."""
    path = Path(path)
    partial = path.with_suffix(".partial")
    torch.save(state, partial)
    os.replace(partial, path)


def load_if_there(path):
    """The checkpoint at `path`, or None."""
    return torch.load(path) if Path(path).exists() else None


class Ema:
    """Exponential moving average of parameters, warming up as (1 + n) / (10 + n)."""

    def __init__(self, parameters, decay):
        self.parameters = list(parameters)
        self.decay = decay
        self.updates = 0
        self.shadow = [parameter.detach().clone() for parameter in self.parameters]

    @torch.no_grad()
    def update(self):
        self.updates += 1
        decay = min(self.decay, (1 + self.updates) / (10 + self.updates))
        torch._foreach_lerp_(self.shadow, [parameter.detach() for parameter in self.parameters], 1 - decay)

    @torch.no_grad()
    def copy_to_model(self):
        for parameter, average in zip(self.parameters, self.shadow):
            parameter.copy_(average)

    def state(self):
        return {"updates": self.updates, "shadow": self.shadow}

    def restore(self, state):
        self.updates, self.shadow = state["updates"], state["shadow"]


def set_learning_rate(optimizer, rate):
    """Gives every parameter of the optimizer this learning rate."""
    for group in optimizer.param_groups:
        group["lr"] = rate


def trainable(model):
    """The parameters that training changes, in order."""
    return [parameter for parameter in model.parameters() if parameter.requires_grad]


class Log:
    """Prints a line with the elapsed time, at once."""

    def __init__(self, name):
        self.name, self.start = name, time.time()

    def __call__(self, text):
        print(f"{self.name} {time.time() - self.start:7.0f}s  {text}", flush=True)


class Trainer:
    """Trains `model` over RANKS processes, keeping a moving average of its weights and a checkpoint at `path`.

    In the checkpoint the weights are called `weights`; `notes` are further values that it keeps.
    """

    def __init__(self, path, weights, model, optimizer, ema_decay, **notes):
        self.path, self.weights, self.model, self.optimizer = path, weights, model, optimizer
        self.parameters = trainable(model)
        self.ema = Ema(self.parameters, ema_decay)
        self.step, self.notes = 0, notes

    def save(self):
        state = {
            self.weights: self.model.state_dict(),
            "optimizer": self.optimizer.state_dict(),
            "ema": self.ema.state(),
            "step": self.step,
            **self.notes,
        }
        save_atomically(state, self.path)

    def restore(self, saved):
        self.model.load_state_dict(saved[self.weights])
        self.optimizer.load_state_dict(saved["optimizer"])
        self.ema.restore(saved["ema"])
        self.step = saved["step"]
        self.notes = {name: saved[name] for name in self.notes}

    def run(self, log, rank, steps, learning_rate, batch_loss, seed, save_every):
        """Goes on from the checkpoint, if there is one, until `steps` steps are done.

        `learning_rate(step)` is that of the step after `step` others; `batch_loss(generator)` draws this rank's
        share of the batch and returns its loss and what to log of it.
        """
        if saved := load_if_there(self.path):
            self.restore(saved)
        while self.step < steps:
            generator = step_generator(seed, self.step, rank)
            set_learning_rate(self.optimizer, learning_rate(self.step))
            loss, text = batch_loss(generator)
            self.optimizer.zero_grad(set_to_none=True)
            loss.backward()
            average_gradients(self.parameters)
            torch.nn.utils.clip_grad_norm_(self.parameters, 1.0)
            self.optimizer.step()
            self.ema.update()
            self.step += 1
            if rank == 0 and self.step % 50 == 0:
                log(f"step {self.step}/{steps} {text}")
            if rank == 0 and (self.step % save_every == 0 or self.step == steps):
                self.save()
