"""Sampling responses from the policy."""

from laser_pl.generation.engine import RolloutEngine
from laser_pl.generation.sampling import Sampling
from laser_pl.generation.transformers_engine import TransformersEngine
from laser_pl.generation.vllm_engine import VLLMEngine

__all__ = ["RolloutEngine", "Sampling", "TransformersEngine", "VLLMEngine"]
