"""One rule-based first guess per kind of task: a draft that needs no weights."""

from __future__ import annotations

from collections.abc import Callable

from lib.drafts.hemorrhage import hemorrhage
from lib.drafts.mass import mass
from lib.drafts.threshold import drafted_structures, threshold
from lib.task import Task
from lib.volume import Array, Volume

RULES: dict[str, Callable[[Volume, Task], Array]] = {"hemorrhage": hemorrhage, "mass": mass, "threshold": threshold}
"""What ``Task.draft_rule`` may name; each gives uint8 (I, J, K) of label values on the image's grid."""


def looked_for(task: Task) -> dict[str, int]:
    """Label value by name of the structures that the task's rule looks for; the others it says nothing about."""
    names = drafted_structures(task) if task.draft_rule == "threshold" else tuple(task.values)
    return {name: value for name, value in task.values.items() if name in names}
