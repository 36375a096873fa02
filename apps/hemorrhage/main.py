"""Intracranial hemorrhage on head CT: five types, drafted by a rule until the first model is trained."""

from lib.serving.loop import LabelingLoop, MONAILabelApp
from lib.task import Structure, Task


class HemorrhageApp(LabelingLoop, MONAILabelApp):
    """Labels bleeds on head CT.

    Types, label values and window are those of the BHSD data set (Wu et al., MLMI 2023).
    """

    TASK = Task(
        name="hemorrhage",
        description="Intracranial hemorrhage on head CT",
        structures=(
            Structure("EDH", 1, (230, 180, 90), code="68752002"),
            Structure("IPH", 2, (216, 101, 79), code="274100004"),
            Structure("IVH", 3, (111, 184, 210), code="23276006"),
            Structure("SAH", 4, (150, 80, 230), code="21454007"),
            Structure("SDH", 5, (210, 240, 60), code="35486000"),
        ),
        modality="CT",
        modalities=("CT",),
        window_hu=(-40.0, 120.0),
        region="largest",
        network="banded_unet",
        patch_voxels=64 * 64 * 16,
        loss="typed",
        draft_rule="hemorrhage",
        flag_ml=1.0,
    )
