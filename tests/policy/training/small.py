"""What the tests of the trainer share: a small training, and a run of it."""

from hotstart.policy.training.settings import TrainingSettings
from hotstart.policy.training.trainer import Trainer

SETTINGS = TrainingSettings(
    steps=14,
    batch=16,
    validation_share=0.2,
    log_every=1,
    validate_every=4,
    save_every=3,
    threads=1,
)
KINDS = ["unet", "transformer", "mode"]


def run(dataset, config, settings, folder, **options):
    return Trainer(dataset, config, settings, folder).run(progress=False, **options)
