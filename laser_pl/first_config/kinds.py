"""Which kind of reward model a folder, a hub name, a function or an address is."""

from __future__ import annotations

import re
from collections.abc import Sequence
from pathlib import Path
from typing import Any

from laser_pl.errors import ConfigurationError
from laser_pl.first_config.guess import Guess
from laser_pl.first_config.policies import adapter_of, base_of
from laser_pl.models.language_model import Weights

RATINGS = "12345"
"""What a judge answers by default; each has to be one token."""


def guess_arms(words: Sequence[str], answers: bool) -> dict[str, Guess]:
    """Reward models by the names they get, each with its class and settings.

    Args:
        words: What the user named.
        answers: Whether prompts have reference answers.

    Raises:
        ConfigurationError: If one of them can be no reward model, or there is none at all.
    """
    found: dict[str, Guess] = {}
    for word in words:
        name = short = _short_name(word)
        while name in found:
            name = f"{short}-{len(found) + 1}"
        found[name] = _guess(word)
    if not found and answers:
        found["verifier"] = Guess({"class_path": "laser_pl.rewards.Verifier"},
                                  "no reward model was named: right answers count, by model.matcher",
                                  "a verifier alone leaves nothing to choose; name reward models")  # fmt: skip
    if not found:
        raise ConfigurationError(
            "init: the prompts have no answers, so something has to judge responses. Name reward models by"
            " --reward_models: folders, hub names, functions such as rewards.brevity, or addresses."
        )
    return found


def _short_name(word: str) -> str:
    """What an arm is called: without dots, which the command line has between settings."""
    if word.startswith(("http://", "https://")):
        return "server"
    last = word.rpartition(".")[2] if is_function(word) else Path(word).name
    return re.sub(r"[^\w-]+", "_", last).strip("_") or "reward_model"


def is_function(word: str) -> bool:
    """Whether a word is the import path of something, rather than a file's or a hub's name."""
    return re.fullmatch(r"[A-Za-z_]\w*(\.[A-Za-z_]\w*)+", word) is not None and not Path(word).exists()


def _guess(word: str) -> Guess:
    if word.startswith(("http://", "https://")):
        return _server(word)
    if is_function(word):
        return Guess(_arm("FunctionReward", function=word), "a Python function, called with prompts and completions")
    adapter = adapter_of(word)
    if adapter is not None:
        return _adapter(word, adapter)
    weights = Weights(word)
    config = weights.load_config()
    names = config.architectures or []
    if any(name.endswith("ForSequenceClassification") for name in names):
        return _classifier(word, config)
    weights.check_language_model()
    return _language_model(weights)


def _arm(kind: str, **settings: Any) -> dict[str, Any]:
    return {"class_path": f"laser_pl.rewards.{kind}", "init_args": settings}


def _server(url: str) -> Guess:
    if re.search(r"/v1/?$|/chat/completions/?$", url):
        return Guess(_arm("ChatJudge", url=url, model="default"), "an address of chat completions: a judge that rates",
                     f"the name of the model behind {url} (its setting model)")  # fmt: skip
    protocol = {"class_path": "laser_pl.rewards.protocols.OpenRLHF"}
    return Guess(_arm("RemoteReward", url=url, protocol=protocol), "an address: taken for OpenRLHF's protocol",
                 f"what the server at {url} speaks (its setting protocol)")  # fmt: skip


def _adapter(word: str, adapter: Any) -> Guess:
    base, task = base_of(word, adapter), adapter.get("task_type")
    if task not in (None, "CAUSAL_LM"):
        raise ConfigurationError(
            f"The adapter '{word}' is one for {task}, which cannot be asked as it is. Merge it into '{base}', and name"
            " the merged model."
        )
    return Guess(_arm("ImplicitReward", weights={"name": base}, adapter=word),
                 "a LoRA adapter: beta (log p with it - log p without)",
                 f"whether '{word}' was trained from preferences, as an implicit reward has to be")  # fmt: skip


def _classifier(word: str, config: Any) -> Guess:
    settings: dict[str, Any] = {"weights": {"name": word}}
    if config.num_labels == 1:
        return Guess(_arm("SequenceClassifier", **settings), "a sequence classifier with one output")
    labels = [str(config.id2label.get(number, number)) for number in range(config.num_labels)]
    settings["head_weights"] = [-1, 1] if len(labels) == 2 else list(range(len(labels)))
    return Guess(_arm("SequenceClassifier", **settings), f"a sequence classifier with the outputs {', '.join(labels)}",
                 f"which outputs of '{word}' are good: later ones were taken for better (head_weights)")  # fmt: skip


def _language_model(weights: Weights) -> Guess:
    tokenizer = weights.load_tokenizer(padding_side="right")
    settings = {"weights": {"name": weights.name}}
    single = all(len(tokenizer(digit, add_special_tokens=False)["input_ids"]) == 1 for digit in RATINGS)
    if tokenizer.chat_template and single:
        return Guess(_arm("PointwiseJudge", **settings), "a language model with a chat template: it rates from 1 to 5",
                     f"whether '{weights.name}' is to rate (PointwiseJudge), compare (PairwiseJudge) or say how likely"
                     " a response is (Likelihood)")  # fmt: skip
    why = "a language model without a chat template" if single else "a language model to which ratings are no tokens"
    return Guess(_arm("Likelihood", **settings), f"{why}: how likely a response is")
