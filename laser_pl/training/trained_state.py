"""The state of a module that is trained in part: the base is loaded from where it came, and is in no checkpoint.

As hooks, so that copies of the module that callbacks keep, as those that average weights do, hold no base either.
"""

from __future__ import annotations

from typing import Any

from torch import nn


def _trained(module: nn.Module) -> set[str]:
    return {name for name, parameter in module.named_parameters() if parameter.requires_grad}


def keep_trained(module: nn.Module, state_dict: dict[str, Any], prefix: str, local_metadata: dict[str, Any]) -> None:
    """After ``state_dict``: leave out what is not trained."""
    trained = _trained(module)
    for name in [name for name in state_dict if name.startswith(prefix) and name[len(prefix) :] not in trained]:
        del state_dict[name]


def miss_only_trained(module: nn.Module, incompatible_keys: Any) -> None:
    """After ``load_state_dict``: miss nothing but what is trained."""
    missing = incompatible_keys.missing_keys
    missing[:] = [name for name in missing if any(name.endswith(trained) for trained in _trained(module))]
