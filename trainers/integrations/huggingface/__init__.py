"""Hugging Face: their `Trainer` on this project's loop, and models saved the way they save them."""

try:
    import accelerate as _accelerate  # noqa: F401  # the Trainer wants it
    import transformers as _transformers  # noqa: F401
except ImportError as error:
    from dpigu.dpcore import ConfigurationError

    raise ConfigurationError(
        "Hugging Face's libraries are not installed",
        where="dpigu.PrivateTrainer",
        remedy="Install the extra: pip install 'dpigu[hf]'.",
    ) from error

from dpigu.trainers.integrations.huggingface.saving import load_pretrained, save_pretrained
from dpigu.trainers.integrations.huggingface.trainer import PrivateTrainer

__all__ = ["PrivateTrainer", "load_pretrained", "save_pretrained"]
