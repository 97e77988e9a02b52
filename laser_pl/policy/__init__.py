"""The policy: the LightningModule, and how right its responses are."""

from laser_pl.policy.policy import Policy

__all__ = ["Policy"]
