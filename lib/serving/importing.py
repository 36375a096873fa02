"""Weights that a person brings along become a model version."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, replace
from pathlib import Path

from lib.errors import InvalidRequest, NoAnnotationsYet, UnacceptableFile
from lib.networks.bundle import is_bundle, read_bundle
from lib.networks.checkpoint import Checkpoint, NetworkPlan
from lib.networks.matching import Match, matched, read_state_dict
from lib.networks.monai_network import refuse_other_output
from lib.networks.plausible import refuse_implausible
from lib.networks.segmenter import network_of, seeded_network
from lib.networks.trial import tried
from lib.preprocessing import plan_for
from lib.store.images import ImageState
from lib.store.models import Model, ModelKind, Models, ModelState, NewModel
from lib.store.record import Record
from lib.task import Structure, Task

SEED = 0
"""Draws the weights that a file lacks."""


@dataclass(frozen=True)
class Brought:
    """Weights from elsewhere, fitted into a network.

    Attributes:
        name: of the file or folder.
        checkpoint: ready to be stored.
        match: what of the file fits.
        notes: what a person should know, line by line.
    """

    name: str
    checkpoint: Checkpoint
    match: Match
    notes: list[str]


def import_weights(record: Record, models: Models, content: bytes) -> Model:
    """Checks a checkpoint and lets it serve.

    Args:
        record: gets the weights.
        models: of the record; get the new version.
        content: a file that ``GET /model/NAME`` of this or another server gave.

    Raises:
        UnacceptableFile: if it is no checkpoint, does not fit its own plan, knows other structures, is of the other
            kind, or gives no probabilities when it is tried.
    """
    tried(content, record.task.encoder_weights)
    checkpoint = _own(content, record.task, models.kind)
    return _added(record, models, checkpoint, ModelState.SERVING, "uploaded, not validated")


def read_weights(path: Path, record: Record, task: Task, names: Mapping[str, Structure]) -> Brought:
    """Reads a MONAI bundle, a checkpoint of ours, or a plain PyTorch state dict.

    A state dict says nothing about its network: it is compared with the one of the version that serves, else with the
    one that a first training on the images at hand would make.

    Args:
        path: a file or a folder.
        record: gives that version and those images.
        task: as configured: its window, spacing and network are those of a first training.
        names: the structure behind a bundle's class, by number or name, where the names differ.

    Raises:
        UnacceptableFile: if it cannot be used; the message says why.
        NoAnnotationsYet: if there is no image to plan a network by.
    """
    if not path.exists():
        raise UnacceptableFile(f"There is no {path}. Name a weight file, or a bundle's folder or ZIP file.")
    brought = _bundle(path, task, names) if is_bundle(path) else _file(path, record, task)
    tried(brought.checkpoint.to_bytes(), task.encoder_weights)
    return brought


def _file(path: Path, record: Record, task: Task) -> Brought:
    """A checkpoint or a state dict."""
    content = path.read_bytes()
    if Checkpoint.is_one(content):
        checkpoint = _own(content, task)
        refuse_implausible(checkpoint.plan)
        match = matched(checkpoint.weights, network_of(checkpoint.plan))
        return Brought(path.name, checkpoint, match, match.report())
    plan = _present_plan(record, task)
    match = matched(read_state_dict(content, path.name), seeded_network(plan, SEED))
    if not match.matched:
        raise UnacceptableFile(
            f"No tensor of {path.name} fits the network {plan.network} of this task. " + " ".join(match.report())
        )
    return Brought(path.name, Checkpoint(plan, match.weights), match, match.report())


def add_weights(record: Record, brought: Brought, *, is_to_serve: bool) -> Model:
    """Stores weights as a new version: kept, or serving if that is wanted.

    Raises:
        InvalidRequest: if they shall serve, but a part of the network has fresh weights.
    """
    if is_to_serve and not brought.match.is_complete:
        raise InvalidRequest(
            f"{brought.name} cannot serve: {brought.match}, the others are fresh. Import it without --serve and train."
        )
    reason = f"imported from {brought.name}: {brought.match}; not validated"
    state = ModelState.SERVING if is_to_serve else ModelState.KEPT
    return _added(record, record.models, brought.checkpoint, state, reason)


def _added(record: Record, models: Models, checkpoint: Checkpoint, state: ModelState, reason: str) -> Model:
    with record.storing_weights(checkpoint.to_bytes()) as digest:
        new = NewModel(
            parent=None,
            weights=digest,
            network=checkpoint.plan.to_json(),
            training=[],
            validation=[],
            metrics={},
        )
        return models.add(new, state, reason)


def _own(content: bytes, task: Task, kind: ModelKind = ModelKind.SEGMENTER) -> Checkpoint:
    checkpoint = Checkpoint.from_bytes(content)
    found = ModelKind.REFINER if checkpoint.plan.network == "refiner" else ModelKind.SEGMENTER
    if found is not kind:
        raise UnacceptableFile(
            f"The weights are those of a {found}, wanted is a {kind}. Refiners are uploaded as {task.name}_refine, "
            f"segmenters as {task.name}."
        )
    values = task.values
    other = {name: value for name, value in checkpoint.plan.structures.items() if values.get(name) != value}
    if other:
        raise UnacceptableFile(f"The weights were made for {checkpoint.plan.structures}, this task has {values}.")
    return checkpoint


def _bundle(path: Path, task: Task, names: Mapping[str, Structure]) -> Brought:
    bundle = read_bundle(path, task, names)
    refuse_implausible(bundle.plan)
    network = seeded_network(bundle.plan, SEED)
    refuse_other_output(bundle.plan, network)
    match = matched(bundle.weights, network)
    notes = [f"Network {bundle.plan.network}, structures {', '.join(bundle.plan.structures)}.", *match.report()]
    if bundle.unknown:
        notes.append(f"Classes that this task does not have count as background: {', '.join(bundle.unknown)}.")
    if bundle.lacking:
        notes.append(f"Structures that it does not know, until a training adds them: {', '.join(bundle.lacking)}.")
    return Brought(bundle.name, Checkpoint(bundle.plan, match.weights), match, [*notes, *bundle.notes])


def _present_plan(record: Record, task: Task) -> NetworkPlan:
    """The plan of the version that serves, else the one for the images at hand, for all structures of the task."""
    serving = record.models.serving()
    if serving is not None:
        return replace(NetworkPlan.from_json(serving.network), structures=task.values, ignored=())
    grids = [image.grid for image in record.images.every(ImageState.OK) if image.grid is not None]
    if not grids:
        raise NoAnnotationsYet("A state dict does not say how its network looks, and there is no image to plan one by.")
    return plan_for(task, grids)
