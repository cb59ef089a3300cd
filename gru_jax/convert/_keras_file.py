"""Files of Keras, read with h5py, zipfile and json: `.keras`, `.weights.h5` and `.h5`."""

import io
import json
import os
import re
import zipfile
from collections.abc import Iterator, Mapping, Sequence
from pathlib import Path
from typing import Any, NamedTuple

import jax.numpy as jnp
import numpy as np
import numpy.typing as npt

from ._keras_variables import NAMES


class KerasFile(NamedTuple):
    """The content of a file.

    Attributes:
      weights: arrays by path, such as "sequential/gru/gru_cell/kernel".
      groups: the paths of the cells by their HDF5 group, such as "layers/gru/cell".
      configs: the settings of each GRU in the model's configuration, with the names of the layers
        that contain it.
    """

    weights: dict[str, npt.NDArray[Any]]
    groups: dict[str, str]
    configs: list[tuple[tuple[str, ...], dict[str, Any]]]


def read_file(path: str | os.PathLike[str]) -> KerasFile:
    """Reads a file of Keras 3 or Keras 2.

    Raises:
      ValueError: no such file, a file of another format, or h5py is not installed.
    """
    path = Path(path)
    if not path.is_file():
        found = "a directory" if path.is_dir() else "no file"
        raise ValueError(
            f"weights is the path {str(path)!r}, where there is {found}, but must be a mapping, "
            "or the path of a .keras, .weights.h5 or .h5 file."
        )
    try:
        import h5py
    except ImportError as error:
        raise ValueError(
            f"weights is the path {str(path)!r}, but h5py, which reads it, is not installed: "
            "install it, or pass layer.weights."
        ) from error
    try:
        if not zipfile.is_zipfile(path):
            with h5py.File(path, "r") as file:
                return _read_h5(file, file.attrs.get("model_config"))
        with zipfile.ZipFile(path) as archive:
            config = archive.read("config.json")
            weights = io.BytesIO(archive.read("model.weights.h5"))
        with h5py.File(weights, "r") as file:
            return _read_h5(file, config)
    except (OSError, KeyError, ValueError, zipfile.BadZipFile) as error:
        raise ValueError(
            f"weights is the path {str(path)!r}, which cannot be read, but must be that of a "
            ".keras, .weights.h5 or .h5 file as Keras writes it, in one piece."
        ) from error


def _read_h5(file: Any, config: str | bytes | None) -> KerasFile:
    configs = [] if config is None else list(_configs(json.loads(config), ()))
    named = file.get("model_weights", file)
    if "layer_names" in named.attrs:
        return KerasFile(_by_name(named), {}, configs)
    weights, groups = _by_group(file)
    return KerasFile(weights, groups, configs)


def _by_name(file: Any) -> dict[str, npt.NDArray[Any]]:
    """The layout of Keras 2, where every layer lists the names of its weights."""
    weights = {}
    for layer in map(_text, file.attrs["layer_names"]):
        for name in map(_text, file[layer].attrs["weight_names"]):
            path = name if layer in name.split("/") else f"{layer}/{name}"
            weights[path.removesuffix(":0")] = _array(file[layer][name])
    return weights


def _by_group(file: Any) -> tuple[dict[str, npt.NDArray[Any]], dict[str, str]]:
    """The layout of Keras 3: groups by attribute, whose "vars" store the name of the object."""
    groups: list[str] = []
    file.visit(groups.append)
    # Keras counts the members of a list, gru_cell_2 before gru_cell_10
    groups.sort(key=lambda group: [int(s) if s.isdigit() else s for s in re.split(r"(\d+)", group)])
    names = {
        group.removesuffix("vars").rstrip("/"): _text(file[group].attrs.get("name", ""))
        for group in groups
        if group.split("/")[-1] == "vars"
    }
    cells: dict[str, str] = {}
    for group in names:
        parts = group.split("/")
        if not any("cell" in part for part in (*parts[-2:], names[group])):
            continue
        ancestors = ["", *("/".join(parts[: i + 1]) for i in range(len(parts)))]
        path = "/".join(names[each] for each in ancestors if names.get(each))
        # older versions of Keras store no names, and two objects may have the same
        cells[group] = path if names[group] and path not in cells.values() else group
    weights = {}
    for group, path in cells.items():
        for i, dataset in file[f"{group}/vars"].items():
            name = dict(enumerate(NAMES)).get(int(i), f"variable {i}")
            weights[f"{path}/{name}"] = _array(dataset)
    return weights, cells


def _array(dataset: Any) -> npt.NDArray[Any]:
    array = np.asarray(dataset)
    if array.dtype.kind == "V" and array.dtype.itemsize == 2:  # how Keras writes bfloat16
        array = array.view(jnp.bfloat16)
    return array


def _text(value: str | bytes) -> str:
    return value.decode() if isinstance(value, bytes) else str(value)


def _configs(node: Any, names: tuple[str, ...]) -> Iterator[tuple[tuple[str, ...], dict[str, Any]]]:
    """Settings of GRUs, anywhere within a configuration."""
    if isinstance(node, list):
        for each in node:
            yield from _configs(each, names)
    elif isinstance(node, dict):
        config = node.get("config")
        if isinstance(config, dict) and "class_name" in node:
            names = (*names, str(config.get("name", "")))
            if "reset_after" in config or node["class_name"] in ("GRU", "GRUCell"):
                yield names, config
        for each in node.values():
            yield from _configs(each, names)


def reset_after_of(config: Mapping[str, Any]) -> bool:
    """The setting of a layer; before Keras had the option, the reset was before the product."""
    return bool(config.get("reset_after"))


def config_at(
    what: str, path: Sequence[str], configs: Sequence[tuple[tuple[str, ...], dict[str, Any]]]
) -> dict[str, Any] | None:
    """The settings of the cell at a path, None if the file has none for it.

    Raises:
      ValueError: other activations, or settings of several layers that match and differ.
    """

    def plain(names: Sequence[str]) -> list[str]:
        return [re.sub(r"^(forward|backward)_", "", name) for name in names]

    def within(names: Sequence[str]) -> bool:
        parts = iter(plain(path))
        return all(name in parts for name in plain(names))  # in this order

    # the first name is the model's; the longest match is the layer's own configuration
    depths = {len(names): within(names[1:]) for names, _ in sorted(configs) if within(names[1:])}
    chosen = [
        config
        for names, config in configs
        if not depths or (len(names) == max(depths) and within(names[1:]))
    ]
    for config in chosen:
        for name, wanted in (("activation", "tanh"), ("recurrent_activation", "sigmoid")):
            found = config.get(name, wanted)
            if found != wanted:
                raise ValueError(
                    f"{what} has {name}={found!r}, but must have {wanted!r}: "
                    "the layer computes something else."
                )
    settings = {(reset_after_of(config), config.get("use_bias")) for config in chosen}
    if len(settings) > 1:
        raise ValueError(
            f"{what} cannot be told from other layers in the file's configuration, which differ "
            "in reset_after or use_bias: pass layer.weights and reset_after instead."
        )
    return chosen[0] if chosen else None
