"""Settings that have other names now, in configurations that older runs wrote."""

from __future__ import annotations

from typing import Any

from laser_pl.moved import new_name

OBJECTIVES = "laser_pl.objectives"


def with_new_names(config: Any) -> Any:
    """A configuration in the words of now. It goes with the settings that still have former names.

    Args:
        config: As it was read; it stays as it is.

    >>> with_new_names({"model": {"beta": 0.1, "frozen": False, "supervised": True}})
    {'model': {'beta': 0.1, 'objective': {'class_path': 'laser_pl.objectives.Supervised'}}}
    >>> with_new_names({"model": {"frozen": True, "objective": {"class_path": "own.Loss"}}})["model"]["objective"]
    {'class_path': 'laser_pl.objectives.Frozen', 'init_args': {'of': {'class_path': 'own.Loss'}}}
    >>> with_new_names({"selection": {"scale": {"class_path": "laser_pl.feedback.scales.Raw"}}})
    {'selection': {'normalizer': {'class_path': 'laser_pl.feedback.normalizers.Raw'}}}
    """
    if isinstance(config, dict) and isinstance(config.get("selection"), dict):
        config = {**config, "selection": _with_normalizer(config["selection"])}
    if not isinstance(config, dict) or not isinstance(config.get("model"), dict):
        return config
    model = {name: value for name, value in config["model"].items() if name not in ("frozen", "supervised")}
    if config["model"].get("supervised"):
        model["objective"] = {"class_path": f"{OBJECTIVES}.Supervised"}
    elif config["model"].get("frozen"):
        of = {"of": model.get("objective")}
        model["objective"] = {"class_path": f"{OBJECTIVES}.Frozen", "init_args": of}
    return {**config, "model": model}


def _with_normalizer(selection: dict[str, Any]) -> dict[str, Any]:
    scale = selection.get("scale")
    others = {name: value for name, value in selection.items() if name != "scale"}
    if scale is None:
        return others
    if isinstance(scale, dict) and isinstance(path := scale.get("class_path"), str):
        module, _, name = path.rpartition(".")
        scale = {**scale, "class_path": f"{new_name(module)}.{name}"} if new_name(module) else scale
    return {**others, "normalizer": scale}
