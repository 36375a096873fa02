"""Organs and other structures on CT or MR: named by ``--conf labels`` or a file beside the studies, no code needed."""

from lib.serving.loop import LabelingLoop, MONAILabelApp
from lib.task import Task


class SegmentationApp(LabelingLoop, MONAILabelApp):
    """Labels any structures on any CT or MR volumes."""

    TASK = Task(name="segmentation", description="Structures on CT or MR volumes")
