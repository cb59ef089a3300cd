"""Trained models as files: a model can be used again without its data and its checkpoints."""

import json
from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Any, NamedTuple, TypeVar

import jax
import numpy as np

from experiments.harness.files import replacing
from experiments.harness.settings import Config, SettingError, check, stem_of, with_settings

Params = TypeVar("Params")


class Model(NamedTuple):
    """A model as it lies in its file."""

    settings: dict[str, Any]  # of its training
    knows: dict[str, Any]  # what it needs besides its parameters, such as a vocabulary; JSON
    arrays: dict[str, np.ndarray]  # the parameters by their places in the pytree


def save_model(
    path: Path, params: Any, settings: Mapping[str, Any], knows: Mapping[str, Any]
) -> None:
    """Writes a model as an .npz, whole or not at all; the archive has a checksum of each array."""
    leaves, _ = jax.tree_util.tree_flatten_with_path(params)
    arrays = {jax.tree_util.keystr(place): np.asarray(leaf) for place, leaf in leaves}
    about = json.dumps({"settings": settings, "knows": knows}, allow_nan=False)
    with replacing(path) as temporary, temporary.open("wb") as file:
        np.savez(file, about=np.array(about), **arrays)  # type: ignore[arg-type]


def load_model(path: Path) -> Model:
    """Reads what `save_model` wrote.

    Raises:
      SettingError: there is no model there, or it is damaged.
    """
    try:
        with path.open("rb") as content, np.load(content, allow_pickle=False) as file:
            arrays = dict(file)
        about = json.loads(str(arrays.pop("about")))
        return Model(about["settings"], about["knows"], arrays)
    except Exception as error:  # whatever a damaged archive leads to
        reason = getattr(error, "strerror", None) or str(error)
        raise SettingError(f"{path} is no model of a finished run: {reason}.") from error


def opened(config: Config) -> tuple[Config, Model]:
    """The model that `config.use` names, and the configuration with the settings of its training.

    Raises:
      SettingError: there is no such model, or a setting is out of range.
    """
    model = load_model(model_path(config, config.use))  # type: ignore[attr-defined]
    config = with_settings(config, model.settings)
    check(config)
    return config, model


def params_of(model: Model, init: Callable[[], Params]) -> Params:
    """The parameters, as the pytree that `init` would draw.

    Raises:
      SettingError: the file has other arrays, for it was written by other code.
    """
    leaves, treedef = jax.tree_util.tree_flatten_with_path(jax.eval_shape(init))
    wanted = {jax.tree_util.keystr(place): leaf.shape for place, leaf in leaves}
    found = {place: array.shape for place, array in model.arrays.items()}
    if wanted != found:
        place = next(p for p in [*wanted, *found] if wanted.get(p) != found.get(p))
        raise SettingError(
            f"the model's array {place} has shape {found.get(place)}, but this code's has "
            f"{wanted.get(place)}."
        )
    arrays = [jax.numpy.asarray(model.arrays[place]) for place in wanted]
    params: Params = jax.tree.unflatten(treedef, arrays)
    return params


def model_path(config: Any, path: Path) -> Path:
    """The file of a model that is named by one of its run's files, or by its run's folder.

    Args:
      config: tells which of the models in a folder is meant: that of its preset.
      path: of the folder, the record or the model.
    """
    path = path / stem_of(config) if path.is_dir() else path.with_suffix("")
    return path.with_name(f"{path.name}.npz")
