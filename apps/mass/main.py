"""Breast mass on mammograms, image by image, drafted by a rule until the first model is trained."""

from lib.serving.loop import LabelingLoop, MONAILabelApp
from lib.task import Structure, Task


class MassApp(LabelingLoop, MONAILabelApp):
    """Labels masses on mammograms, digital or scanned from film."""

    TASK = Task(
        name="mass",
        description="Breast mass on mammograms",
        structures=(Structure("mass", 1, (241, 214, 145), code="4147007"),),
        modality="MG",
        modalities=("MG", "CR", "DX"),
        region="largest",
        is_flat=True,
        network="adapter_unet",
        loss="position_aware",
        draft_rule="mass",
    )
