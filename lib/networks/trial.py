"""Weights from elsewhere are tried before they may serve, in a process that may fail without harm to this one."""

from __future__ import annotations

import multiprocessing
import resource
from multiprocessing.connection import Connection
from pathlib import Path

import torch

from lib.errors import UnacceptableFile
from lib.networks.checkpoint import Checkpoint, NetworkPlan, VoxelTriple
from lib.networks.plausible import refuse_implausible
from lib.networks.segmenter import fitted, network_of
from lib.networks.weight_file import not_finite

TRIAL_SECONDS = 300.0

TRIAL_BYTES = 8 * 2**30
"""Memory for a trial beside what the libraries take; several times the file is added."""

NAMES_SHOWN = 3

LONGEST_REASON = 500


def refuse_unfit(content: bytes, encoder: str = "") -> None:
    """Builds the network of a checkpoint and lets it find something in two tiny images, a flat one and one of noise.

    Args:
        content: as ``Checkpoint.to_bytes`` gives it.
        encoder: the one file of a frozen encoder that a plan may name: no other is opened; empty: none.

    Raises:
        UnacceptableFile: if it is no checkpoint, its plan is not plausible, its weights do not fit or hold NaN or
            infinity, or what it finds is none of the probabilities that its plan promises.
    """
    checkpoint = Checkpoint.from_bytes(content)
    plan = checkpoint.plan
    refuse_implausible(plan)
    if plan.encoder not in ("", encoder):
        raise UnacceptableFile(
            f"The plan names the encoder weights {plan.encoder[:200]!r}. Start with those by --conf encoder_weights."
        )
    network = fitted(network_of(plan), checkpoint.weights).eval()
    if wrong := not_finite(network.state_dict()):
        more = f" and {len(wrong) - NAMES_SHOWN} more" if len(wrong) > NAMES_SHOWN else ""
        raise UnacceptableFile(
            f"The weights hold NaN or infinity in {', '.join(wrong[:NAMES_SHOWN])}{more}. Train the network again."
        )
    size = _tiny(plan)
    seen = 1 + (len(plan.structures) if plan.network == "refiner" else 0)
    noise = torch.randn(1, seen, *size, generator=torch.Generator().manual_seed(0))
    for image in (torch.zeros(1, seen, *size), noise):
        _refuse_other(network, image, plan)


def tried(content: bytes, encoder: str = "") -> None:
    """The same in a process of its own, with limits of memory and time; its end, whatever brings it, is a refusal.

    Raises:
        UnacceptableFile: as ``refuse_unfit``, or if the limits are reached.
    """
    context = multiprocessing.get_context("spawn")
    here, there = context.Pipe(duplex=False)
    process = context.Process(target=_try, args=(content, encoder, there), name="trial", daemon=True)
    process.start()
    there.close()
    try:
        reason = here.recv() if here.poll(TRIAL_SECONDS) else f"it took longer than {TRIAL_SECONDS:g} s"
    except EOFError:
        process.join()
        reason = f"the process that tried it ended with code {process.exitcode}"
    finally:
        process.kill()
        process.join()
        here.close()
    if reason:
        raise UnacceptableFile(f"The weights were tried on a tiny image and cannot be used: {reason}")


def _try(content: bytes, encoder: str, answer: Connection) -> None:
    torch.set_num_threads(1)
    room = _address_space() + TRIAL_BYTES + 4 * len(content)
    resource.setrlimit(resource.RLIMIT_AS, (room, room))
    try:
        refuse_unfit(content, encoder)
        reason = ""
    except UnacceptableFile as error:
        reason = str(error)
    # Whatever the network stumbles over, lack of memory too.
    except Exception as error:
        reason = f"{type(error).__name__}: {error}"
    answer.send(reason[:LONGEST_REASON])


def _address_space() -> int:
    """Bytes of addresses that this process uses."""
    return int(Path("/proc/self/statm").read_text().split()[0]) * resource.getpagesize()


def _tiny(plan: NetworkPlan) -> VoxelTriple:
    """The smallest image that is not a single voxel on the coarsest level; some networks see only their own patch."""
    if not plan.strides:
        return plan.patch
    i, j, k = (min(edge, 2 * step) for edge, step in zip(plan.patch, plan.multiple, strict=True))
    return i, j, k


def _refuse_other(network: torch.nn.Module, image: torch.Tensor, plan: NetworkPlan) -> None:
    wanted = (1, plan.outputs, *image.shape[2:])
    try:
        with torch.inference_mode():
            found = network(image)
    # A size that does not suit the network shows in whatever it stumbles over.
    except Exception as error:
        raise UnacceptableFile(f"The network fails on {tuple(image.shape[2:])} voxels: {error}") from error
    if not isinstance(found, torch.Tensor) or tuple(found.shape) != wanted:
        shape = tuple(found.shape) if isinstance(found, torch.Tensor) else type(found).__name__
        raise UnacceptableFile(f"The network gives {shape} for {tuple(image.shape)}, wanted is {wanted}.")
    if not bool(torch.isfinite(found.float().softmax(dim=1)).all()):
        raise UnacceptableFile("What the network finds are no probabilities but NaN. Train it again.")
