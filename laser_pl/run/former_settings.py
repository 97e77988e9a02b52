"""Settings that have other names now, in configurations that older runs wrote."""

from __future__ import annotations

from typing import Any

OBJECTIVES = "laser_pl.objectives"


def with_new_names(config: Any) -> Any:
    """A configuration in the words of now. It goes with ``model.frozen`` and ``model.supervised``.

    Args:
        config: As it was read; it stays as it is.

    >>> with_new_names({"model": {"beta": 0.1, "frozen": False, "supervised": True}})
    {'model': {'beta': 0.1, 'objective': {'class_path': 'laser_pl.objectives.Supervised'}}}
    >>> with_new_names({"model": {"frozen": True, "objective": {"class_path": "own.Loss"}}})["model"]["objective"]
    {'class_path': 'laser_pl.objectives.Frozen', 'init_args': {'of': {'class_path': 'own.Loss'}}}
    """
    if not isinstance(config, dict) or not isinstance(config.get("model"), dict):
        return config
    model = {name: value for name, value in config["model"].items() if name not in ("frozen", "supervised")}
    if config["model"].get("supervised"):
        model["objective"] = {"class_path": f"{OBJECTIVES}.Supervised"}
    elif config["model"].get("frozen"):
        of = {"of": model.get("objective")}
        model["objective"] = {"class_path": f"{OBJECTIVES}.Frozen", "init_args": of}
    return {**config, "model": model}
