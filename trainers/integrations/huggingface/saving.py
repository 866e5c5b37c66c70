"""A trained model or its adapters as Hugging Face saves them, in a run's public folder."""

from __future__ import annotations

from pathlib import Path
from typing import Any

from dpigu.dpcore import ConfigurationError, RunError
from dpigu.trainers.runs.folder import RunFolder

PRETRAINED = "pretrained"


def save_pretrained(model: Any, run: Path | str, processing_class: Any = None) -> Path:
    """Save a model, or only the adapters of a PEFT model, as safetensors; the folder it is in.

    Privacy: the weights are what the run released, so they lie beside its claim in `public/`.

    Args:
        model: of `transformers` or PEFT, as the run left it.
        run: the run folder.
        processing_class: a tokenizer or image processor to save with it.

    Errors: `RunError` for no run folder, `ConfigurationError` for a model that saves itself in no
    such way.
    """
    folder = RunFolder.existing(Path(run)).public / PRETRAINED
    for thing in filter(None, (model, processing_class)):
        if not hasattr(thing, "save_pretrained"):
            raise ConfigurationError(
                "this is not saved the way Hugging Face does",
                where="save_pretrained",
                got=type(thing).__name__,
                remedy="The run folder has its weights already.",
            )
        thing.save_pretrained(folder)
    return folder


def load_pretrained(run: Path | str, base: Any) -> Any:
    """The trained model from a run's folder, in evaluation mode.

    Args:
        run: the run folder.
        base: for adapters the base model that they were trained on; otherwise the model's class,
            such as `AutoModelForCausalLM`.

    Errors: `RunError` where nothing was saved.
    """
    folder = RunFolder.existing(Path(run)).public / PRETRAINED
    if not folder.is_dir():
        raise RunError(
            "no model was saved in this run",
            where=str(folder),
            remedy="Call save_pretrained(model, run) after training.",
        )
    if (folder / "adapter_config.json").is_file():
        from peft import PeftModel

        return PeftModel.from_pretrained(base, folder).eval()
    return base.from_pretrained(folder, use_safetensors=True).eval()
