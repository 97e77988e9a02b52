"""Reward models of every family read what they were trained on: classifiers whole chats, likelihoods the response."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import pytest
import torch
from tokenizers import AddedToken, Regex, Tokenizer, decoders, models, normalizers, pre_tokenizers, processors
from transformers import (
    AutoConfig,
    AutoModelForCausalLM,
    AutoModelForSequenceClassification,
    AutoTokenizer,
    PreTrainedTokenizerFast,
)

from laser_pl.batches import Prompt
from laser_pl.errors import ConfigurationError
from laser_pl.models.language_model import Weights
from laser_pl.rewards import Likelihood, SequenceClassifier

pytestmark = pytest.mark.slow

CPU = torch.device("cpu")
USER, ASSISTANT, SYSTEM = (
    lambda text, role=role: {"role": role, "content": text} for role in ("user", "assistant", "system")
)
ONE_TURN = [USER("What is 40+2?")]
TURNS = [USER("Hi"), ASSISTANT("Hello."), USER("What is 40+2?")]
BRIEF = [SYSTEM("Be brief."), *TURNS]
CHATS = {"one turn": ONE_TURN, "turns": TURNS, "system": BRIEF}
RESPONSES = ["42", " It is 42.\n", "", "forty\n\ntwo <b>", "é"]

# -- tokenizers, each with the normaliser and the post-processor of its family -----------------------------------------


def byte_level(
    specials: list[str], single: str | None = None, pair: str | None = None, lines: bool = True
) -> Tokenizer:
    """Llama 3, Qwen, SmolLM2, RoBERTa, GPT-2: bytes, a space merged into what follows."""
    merges = [("Ġ", "4"), ("Ċ", "Ċ"), ("4", "2"), ("t", "w"), ("tw", "o"), ("Ġ", "two"), ("Ġ", "is")]
    alphabet = [*sorted(pre_tokenizers.ByteLevel.alphabet()), "is"]
    tokens = dict.fromkeys([*specials, *alphabet, *("".join(merge) for merge in merges)])
    backend = Tokenizer(models.BPE({token: i for i, token in enumerate(tokens)}, [("i", "s"), *merges]))
    bytes_ = pre_tokenizers.ByteLevel(add_prefix_space=False, use_regex=not lines)
    # Llama 3 and Qwen keep line breaks together, GPT-2 cuts off the last of them.
    words = [pre_tokenizers.Split(Regex(r" ?\p{L}+|\p{N}{1,3}| ?[^\s\p{L}\p{N}]+|\s*[\r\n]+|\s+"), "isolated")]
    backend.pre_tokenizer = pre_tokenizers.Sequence([*(words if lines else []), bytes_])
    backend.decoder = decoders.ByteLevel()
    return processed(backend, single, pair)


def sentencepiece(specials: list[str], prepend: bool, single: str | None = None, pair: str | None = None) -> Tokenizer:
    """Llama 2, Mistral, Zephyr, T5: a space is put before every text. Gemma: spaces are written as they stand."""
    characters = ["▁", "\n", *map(chr, range(33, 127))]
    pieces = [f"<0x{byte:02X}>" for byte in range(256)]
    merges = [("▁", "4"), ("4", "2"), ("\n", "\n"), ("i", "s"), ("▁", "is")]
    tokens = dict.fromkeys([*specials, *pieces, *characters, *("".join(merge) for merge in merges)])
    backend = Tokenizer(
        models.BPE({token: i for i, token in enumerate(tokens)}, merges, byte_fallback=True, unk_token="<unk>")
    )
    before = [normalizers.Prepend("▁")] if prepend else []
    backend.normalizer = normalizers.Sequence([*before, normalizers.Replace(" ", "▁")])
    backend.decoder = decoders.Sequence([decoders.Replace("▁", " "), decoders.ByteFallback(), decoders.Fuse()])
    return processed(backend, single, pair)


def wordpiece(specials: list[str], single: str, pair: str) -> Tokenizer:
    """BERT, DeBERTa: words, and their characters behind ``##``."""
    characters = [chr(c) for c in range(33, 127)]
    tokens = dict.fromkeys([*specials, *characters, *(f"##{c}" for c in characters), "is", "what"])
    backend = Tokenizer(models.WordPiece({token: i for i, token in enumerate(tokens)}, unk_token="[UNK]"))
    backend.normalizer = normalizers.BertNormalizer()
    backend.pre_tokenizer = pre_tokenizers.BertPreTokenizer()
    return processed(backend, single, pair)


def processed(backend: Tokenizer, single: str | None, pair: str | None = None) -> Tokenizer:
    if single is not None:
        named = {part.split(":")[0] for part in f"{single} {pair or ''}".split() if not part.startswith("$")}
        backend.post_processor = processors.TemplateProcessing(
            single=single, pair=pair, special_tokens=[(name, backend.token_to_id(name)) for name in sorted(named)]
        )
    return backend


CHATML = (
    "{% for m in messages %}{{ '<|im_start|>' + m['role'] + '\n' + m['content'] + '<|im_end|>' + '\n' }}{% endfor %}"
    "{% if add_generation_prompt %}{{ '<|im_start|>assistant\n' }}{% endif %}"
)
DEFAULT_SYSTEM = (
    "{% if messages[0]['role'] != 'system' %}{{ '<|im_start|>system\nYou are helpful.<|im_end|>\n' }}{% endif %}"
)
# Qwen3: an answer's thoughts are shown in the last turn, empty where there are none.
QWEN3 = (
    "{% for m in messages %}{% set content = m.content %}{% set thought = '' %}"
    "{% if m.role == 'assistant' and '</think>' in content %}"
    "{% set thought = content.split('</think>')[0].rstrip('\n').split('<think>')[-1].lstrip('\n') %}"
    "{% set content = content.split('</think>')[-1].lstrip('\n') %}{% endif %}"
    "{{ '<|im_start|>' + m.role + '\n' }}"
    "{% if m.role == 'assistant' and loop.last %}{{ '<think>\n' + thought.strip('\n') + '\n</think>\n\n' }}{% endif %}"
    "{{ content + '<|im_end|>\n' }}{% endfor %}{% if add_generation_prompt %}{{ '<|im_start|>assistant\n' }}{% endif %}"
)
LLAMA3 = (
    "{{ bos_token }}{% if messages[0]['role'] == 'system' %}{% set system = messages[0]['content'] | trim %}"
    "{% set messages = messages[1:] %}{% else %}{% set system = '' %}{% endif %}"
    "{{ '<|start_header_id|>system<|end_header_id|>\n\nToday Date: 26 Jul 2024\n\n' + system + '<|eot_id|>' }}"
    "{% for m in messages %}{{ '<|start_header_id|>' + m['role'] + '<|end_header_id|>\n\n' + m['content'] | trim"
    " + '<|eot_id|>' }}{% endfor %}"
    "{% if add_generation_prompt %}{{ '<|start_header_id|>assistant<|end_header_id|>\n\n' }}{% endif %}"
)
NO_SYSTEM = "{% if messages[0]['role'] == 'system' %}{{ raise_exception('System role not supported') }}{% endif %}"
ALTERNATE = (
    "{% for m in messages %}{% if (m['role'] == 'user') != (loop.index0 % 2 == 0) %}"
    "{{ raise_exception('Conversation roles must alternate user/assistant/...') }}{% endif %}{% endfor %}"
)
GEMMA = (
    "{{ bos_token }}" + NO_SYSTEM + ALTERNATE + "{% for m in messages %}"
    "{{ '<start_of_turn>' + ('model' if m['role'] == 'assistant' else m['role']) + '\n' + m['content'] | trim"
    " + '<end_of_turn>\n' }}{% endfor %}{% if add_generation_prompt %}{{ '<start_of_turn>model\n' }}{% endif %}"
)
MISTRAL = (
    "{{ bos_token }}" + ALTERNATE + "{% for m in messages %}{% if m['role'] == 'user' %}"
    "{{ '[INST] ' + m['content'] + ' [/INST]' }}{% else %}{{ m['content'] + eos_token }}{% endif %}{% endfor %}"
)
LLAMA2 = (
    "{% for m in messages %}{% if m['role'] == 'user' %}{{ bos_token + '[INST] ' + m['content'].strip() + ' [/INST]' }}"
    "{% elif m['role'] == 'system' %}{{ '<<SYS>>' + m['content'] + '<</SYS>>' }}"
    "{% else %}{{ ' ' + m['content'].strip() + ' ' + eos_token }}{% endif %}{% endfor %}"
)
ZEPHYR = (
    "{% for m in messages %}{{ '<|' + m['role'] + '|>\n' + m['content'] + eos_token + '\n' }}{% endfor %}"
    "{% if add_generation_prompt %}{{ '<|assistant|>\n' }}{% endif %}"
)
PHI3 = (
    "{% for m in messages %}{{ '<|' + m['role'] + '|>\n' + m['content'] + '<|end|>\n' }}{% endfor %}"
    "{% if add_generation_prompt %}{{ '<|assistant|>\n' }}{% else %}{{ eos_token }}{% endif %}"
)
# DeepSeek-R1: the generation prompt opens a thought, a finished turn shows none.
R1 = (
    "{{ bos_token }}{% for m in messages %}{% if m['role'] == 'assistant' %}"
    "{{ '<|Assistant|>' + m['content'].split('</think>')[-1] + eos_token }}"
    "{% else %}{{ '<|User|>' + m['content'] }}{% endif %}{% endfor %}"
    "{% if add_generation_prompt %}{{ '<|Assistant|><think>\n' }}{% endif %}"
)
# Qwen3-Thinking: the generation prompt opens a thought that the finished turn shows.
THINKING = QWEN3.replace("assistant\n' }}{% endif %}", "assistant\n<think>\n' }}{% endif %}")
PLAIN_MARKS = "{% for m in messages %}{{ '[' + m.role + ']' + m.content + '|' }}{% endfor %}"


@dataclass
class Family:
    """A tokenizer, its special tokens and template, and a classifier of its make."""

    backend: Callable[[], Tokenizer]
    special: dict[str, str]
    template: str | None = None
    extra: Sequence[str | AddedToken] = ()
    model: str = "llama"
    shape: dict[str, Any] = field(default_factory=dict)
    refuses: bool = False  # a system turn
    pads: str | None = "<pad>"  # what the classifier's configuration says

    def tokenizer(self) -> Any:
        made = PreTrainedTokenizerFast(
            tokenizer_object=self.backend(), extra_special_tokens=list(self.extra), clean_up_tokenization_spaces=False,
            model_input_names=["input_ids", "attention_mask", *(["token_type_ids"] if self.model == "bert" else [])],
            **self.special,
        )  # fmt: skip
        made.chat_template = self.template
        return made


IM = ["<|im_start|>", "<|im_end|>"]
HEADERS = ["<|start_header_id|>", "<|end_header_id|>", "<|eot_id|>"]
TURN = ["<start_of_turn>", "<end_of_turn>"]
QWEN = {"pad_token": "<pad>", "eos_token": "<|im_end|>"}
SP = {"pad_token": "<pad>", "unk_token": "<unk>", "bos_token": "<s>", "eos_token": "</s>"}
GEMMAS = {"pad_token": "<pad>", "unk_token": "<unk>", "bos_token": "<bos>", "eos_token": "<eos>"}
LLAMA3S = {"pad_token": "<pad>", "bos_token": "<|begin_of_text|>", "eos_token": "<|eot_id|>"}
BERT = {"pad_token": "[PAD]", "unk_token": "[UNK]", "cls_token": "[CLS]", "sep_token": "[SEP]"}
ROBERTA = {"bos_token": "<s>", "pad_token": "<pad>", "eos_token": "</s>", "unk_token": "<unk>", "cls_token": "<s>",
           "sep_token": "</s>", "mask_token": "<mask>"}  # fmt: skip


def qwen(template: str, lines: bool = True) -> Family:
    return Family(lambda: byte_level(["<pad>", *IM], lines=lines), QWEN, template, IM)


def spaced(template: str, **how: Any) -> Family:
    return Family(lambda: sentencepiece(["<unk>", "<s>", "</s>", "<pad>"], True, "<s> $A"), SP, template, **how)


CHATTING = {
    "Llama 3": Family(
        lambda: byte_level(["<pad>", "<|begin_of_text|>", *HEADERS], "<|begin_of_text|> $A"), LLAMA3S, LLAMA3, HEADERS
    ),
    "Llama 3, padded with EOS": Family(
        lambda: byte_level(["<pad>", "<|begin_of_text|>", *HEADERS], "<|begin_of_text|> $A"), LLAMA3S, LLAMA3, HEADERS,
        pads="<|eot_id|>",
    ),
    "Llama 3, padding unknown": Family(
        lambda: byte_level(["<pad>", "<|begin_of_text|>", *HEADERS], "<|begin_of_text|> $A"), LLAMA3S, LLAMA3, HEADERS,
        pads=None,
    ),
    "Qwen 2.5": qwen(DEFAULT_SYSTEM + CHATML),
    "SmolLM2": qwen(DEFAULT_SYSTEM + CHATML, lines=False),
    "Qwen 3": qwen(QWEN3),
    "Qwen 3, thinking": qwen(THINKING),
    "Gemma": Family(lambda: sentencepiece(["<unk>", "<bos>", "<eos>", "<pad>", *TURN], False, "<bos> $A"), GEMMAS,
                    GEMMA, TURN, refuses=True),
    "Mistral": spaced(MISTRAL, refuses=True),
    "Llama 2": spaced(LLAMA2),
    "Zephyr": spaced(ZEPHYR),
    # Its special tokens take the white space behind them along.
    "Phi 3": spaced(PHI3, extra=[AddedToken(f"<|{name}|>", rstrip=True, special=True)
                                 for name in ("system", "user", "assistant", "end")]),
    "DeepSeek R1": spaced(R1),
    "plain marks": spaced(PLAIN_MARKS),
}  # fmt: skip
WITHOUT = {
    "BERT": Family(lambda: wordpiece([*BERT.values()], "[CLS] $A [SEP]", "[CLS] $A [SEP] $B:1 [SEP]:1"), BERT,
                   model="bert", pads="[PAD]"),
    "DeBERTa": Family(lambda: wordpiece([*BERT.values()], "[CLS] $A [SEP]", "[CLS] $A [SEP] $B:1 [SEP]:1"),
                      BERT | {"bos_token": "[CLS]", "eos_token": "[SEP]"}, model="deberta-v2",
                      shape={"relative_attention": True, "pos_att_type": ["p2c", "c2p"], "type_vocab_size": 0,
                             "position_biased_input": False, "pooler_hidden_size": 32}, pads="[PAD]"),
    "RoBERTa": Family(lambda: byte_level(["<s>", "<pad>", "</s>", "<unk>", "<mask>"], "<s> $A </s>",
                                         "<s> $A </s> </s> $B </s>"), ROBERTA, model="roberta",
                      shape={"type_vocab_size": 1, "max_position_embeddings": 514}),
    "BART": Family(lambda: byte_level(["<s>", "<pad>", "</s>", "<unk>", "<mask>"], "<s> $A </s>",
                                      "<s> $A </s> </s> $B </s>"), ROBERTA, model="bart",
                   shape={"d_model": 32, "encoder_ffn_dim": 64, "decoder_ffn_dim": 64, "init_std": 0.2,
                          "encoder_layers": 2, "decoder_layers": 2}),
    "T5": Family(lambda: sentencepiece(["<pad>", "</s>", "<unk>"], True, "$A </s>", "$A </s> $B </s>"),
                 {name: SP[name] for name in ("pad_token", "eos_token", "unk_token")}, model="t5",
                 shape={"d_model": 32, "d_kv": 8, "d_ff": 64, "decoder_start_token_id": 0}),
}  # fmt: skip
SHAPE = {"hidden_size": 32, "intermediate_size": 64, "num_hidden_layers": 2, "num_attention_heads": 4,
         "max_position_embeddings": 512, "initializer_range": 0.2, "num_labels": 1}  # fmt: skip


@pytest.fixture(scope="module")
def saved(tmp_path_factory: pytest.TempPathFactory) -> Callable[..., Path]:
    """A model of a family's make with its tokenizer, made once."""
    made: dict[tuple[str, Any], Path] = {}

    def save(name: str, kind: Any = AutoModelForSequenceClassification) -> Path:
        if (name, kind) not in made:
            family = (CHATTING | WITHOUT)[name]
            tokenizer = family.tokenizer()
            ids = {key: tokenizer.convert_tokens_to_ids(token) for key, token in family.special.items()}
            pad = None if family.pads is None else tokenizer.convert_tokens_to_ids(family.pads)
            special = {"pad_token_id": pad, "bos_token_id": ids.get("bos_token"), "eos_token_id": ids.get("eos_token")}
            config = AutoConfig.for_model(
                family.model, **SHAPE | special | {"vocab_size": len(tokenizer)} | family.shape
            )
            with torch.random.fork_rng():
                torch.manual_seed(0)
                folder = tmp_path_factory.mktemp("model")
                kind.from_config(config).save_pretrained(folder)
            tokenizer.save_pretrained(folder)
            made[name, kind] = folder
        return made[name, kind]

    return save


def classifier(folder: Path, **how: Any) -> SequenceClassifier:
    reward = SequenceClassifier(Weights(str(folder)), **how)
    reward.check()
    reward.load(CPU)
    return reward


@torch.no_grad()
def score_of(folder: Path, **inputs: Any) -> float:
    """transformers' own score of one text, as a model card computes it."""
    return float(AutoModelForSequenceClassification.from_pretrained(folder)(**inputs).logits)


# -- classifiers -------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("chat", CHATS)
@pytest.mark.parametrize("name", CHATTING)
def test_a_classifier_reads_the_chat_as_its_template_writes_it(
    saved: Callable[..., Path], name: str, chat: str
) -> None:
    folder = saved(name)
    prompt = Prompt("0", CHATS[chat], "")
    if CHATTING[name].refuses and chat == "system":
        with pytest.raises(ConfigurationError, match=f"chat template of '{folder}' refuses a prompt: "):
            classifier(folder).score([prompt], [RESPONSES])
        return
    tokenizer = AutoTokenizer.from_pretrained(folder)
    expected = [
        score_of(
            folder,
            **tokenizer.apply_chat_template(
                [*CHATS[chat], ASSISTANT(response)], tokenize=True, return_dict=True, return_tensors="pt"
            ),
        )
        for response in RESPONSES
    ]
    found = classifier(folder).score([prompt], [RESPONSES])[0].tolist()
    assert found == pytest.approx(expected, abs=2e-5)
    assert max(expected) - min(expected) > 0.01


@pytest.mark.parametrize("name", WITHOUT)
def test_an_encoder_reads_question_and_answer_apart(saved: Callable[..., Path], name: str) -> None:
    folder = saved(name)
    tokenizer = AutoTokenizer.from_pretrained(folder)
    questions = ["What is 40+2?", "It is"]
    expected = [
        [
            score_of(folder, **tokenizer([q], [a], return_tensors="pt"))
            for a in RESPONSES
        ]
        for q in questions
    ]  # fmt: skip
    found = classifier(folder).score([Prompt(q, q, q) for q in questions], [RESPONSES] * 2)
    assert torch.allclose(found, torch.tensor(expected), atol=2e-5)
    assert max(expected[0]) - min(expected[0]) > 0.01


@pytest.mark.parametrize(("name", "places"), [("BERT", 512), ("RoBERTa", 512)])
def test_an_encoder_reads_no_further_than_it_can(saved: Callable[..., Path], name: str, places: int) -> None:
    """The oldest tokens are left out, but for the first, where the score is read; types are cut along."""
    folder = saved(name)
    tokenizer = AutoTokenizer.from_pretrained(folder)
    ids = torch.tensor(tokenizer("4 " * 700, "It is 42.")["input_ids"])
    kept = torch.cat([ids[:1], ids[1 - places :]])[None]
    inputs = {"input_ids": kept}
    if name == "BERT":
        apart = int((kept[0] == tokenizer.sep_token_id).nonzero()[0]) + 1
        inputs["token_type_ids"] = (torch.arange(places) >= apart).long()[None]
    found = classifier(folder).score([Prompt("0", "4 " * 700, "")], [["It is 42."]])
    assert float(found) == pytest.approx(score_of(folder, **inputs), abs=2e-5)


# -- likelihoods -------------------------------------------------------------------------------------------------------

ASKED = "What is 40+2?"
LLAMA3_HEAD = (
    "<|begin_of_text|><|start_header_id|>system<|end_header_id|>\n\nToday Date: 26 Jul 2024\n\n<|eot_id|>"
    f"<|start_header_id|>user<|end_header_id|>\n\n{ASKED}<|eot_id|><|start_header_id|>assistant<|end_header_id|>\n\n"
)
CHATML_HEAD = f"<|im_start|>user\n{ASKED}<|im_end|>\n<|im_start|>assistant\n"
SMOLLM2_HEAD = f"<|im_start|>system\nYou are helpful.<|im_end|>\n{CHATML_HEAD}"
THOUGHT = "<think>\nSum.\n</think>\n\n42"
# The family, a response, what is read before it is written, and the tokens that are.
WRITTEN: list[tuple[str, str, str, list[str]]] = [
    ("Llama 3", "42", LLAMA3_HEAD, ["42", "<|eot_id|>"]),
    ("Llama 3", " 42\n", LLAMA3_HEAD, ["42", "<|eot_id|>"]),  # the template takes white space away
    ("Llama 3", "", LLAMA3_HEAD, ["<|eot_id|>"]),
    ("Qwen 2.5", "42", SMOLLM2_HEAD, ["42", "<|im_end|>"]),
    ("Qwen 2.5", " 42\n", SMOLLM2_HEAD, ["Ġ", "42", "Ċ", "<|im_end|>"]),
    ("SmolLM2", "42", SMOLLM2_HEAD, ["42", "<|im_end|>"]),
    ("Qwen 3", "42", CHATML_HEAD, ["42", "<|im_end|>"]),
    ("Qwen 3", THOUGHT, CHATML_HEAD,
     ["<", *"think", ">", "Ċ", *"Sum.", "Ċ", *"</", *"think", ">", "ĊĊ", "42", "<|im_end|>"]),
    ("Qwen 3, thinking", "Sum.\n</think>\n\n42", CHATML_HEAD + "<think>\n",
     [*"Sum.", "Ċ", *"</", *"think", ">", "ĊĊ", "42", "<|im_end|>"]),
    ("Gemma", "42", f"<bos><start_of_turn>user\n{ASKED}<end_of_turn>\n<start_of_turn>model\n",
     ["42", "<end_of_turn>"]),
    ("Mistral", "42", f"<s>[INST] {ASKED} [/INST]", ["42", "</s>"]),
    ("Llama 2", "42", f"<s>[INST] {ASKED} [/INST]", ["▁4", "2", "▁", "</s>"]),  # the space is the template's
    ("Zephyr", "42", f"<|user|>\n{ASKED}</s>\n<|assistant|>\n", ["42", "</s>"]),
    ("Phi 3", "42", f"<|user|>\n{ASKED}<|end|>\n<|assistant|>\n", ["▁4", "2", "<|end|>"]),
    ("Phi 3", " 42\n", f"<|user|>\n{ASKED}<|end|>\n<|assistant|>\n", ["▁4", "2", "\n", "<|end|>"]),
    ("DeepSeek R1", "42", f"<s><|User|>{ASKED}<|Assistant|>", ["42", "</s>"]),
    ("DeepSeek R1", "<think>\nSum.</think>42", f"<s><|User|>{ASKED}<|Assistant|>",
     ["<", *"think>", "\n", *"Sum.</think>", "42", "</s>"]),
    ("DeepSeek R1", "Sum.</think>42", f"<s><|User|>{ASKED}<|Assistant|><think>\n",
     [*"Sum.</think>", "42", "</s>"]),
    ("plain marks", "42", f"[user]{ASKED}|[assistant]", ["42", "|"]),
]  # fmt: skip


@pytest.mark.parametrize(("name", "response", "head", "written"), WRITTEN)
def test_a_likelihood_counts_the_response_and_what_ends_it(
    saved: Callable[..., Path], name: str, response: str, head: str, written: list[str]
) -> None:
    folder = saved(name, AutoModelForCausalLM)
    reward = Likelihood(Weights(str(folder)), reduction="sum")
    reward.check()
    reward.load(CPU)
    prompt = Prompt("0", ASKED, "")
    ((ids, tail),) = reward.read([prompt], [[response]])
    tokenizer = AutoTokenizer.from_pretrained(folder)
    assert tokenizer.convert_ids_to_tokens(tail) == written
    assert ids == tokenizer(head, add_special_tokens=False)["input_ids"]
    with torch.no_grad():
        logits = AutoModelForCausalLM.from_pretrained(folder)(input_ids=torch.tensor([ids + tail])).logits[0].double()
    each = logits.log_softmax(-1)[len(ids) - 1 : -1]
    expected = sum(float(each[place, token]) for place, token in enumerate(tail))
    assert float(reward.score([prompt], [[response]])) == pytest.approx(expected, abs=1e-4)


@pytest.mark.parametrize(("name", "chat"), [(name, chat) for name in CHATTING for chat in CHATS])
def test_what_a_likelihood_has_read_is_the_prompt_alone(saved: Callable[..., Path], name: str, chat: str) -> None:
    """Whatever the response, whole tokens of the generation prompt stand before it, where the template has one."""
    if CHATTING[name].refuses and chat == "system":
        return
    folder = saved(name, AutoModelForCausalLM)
    reward = Likelihood(Weights(str(folder)))
    reward.load(CPU)
    tokenizer = AutoTokenizer.from_pretrained(folder)
    asked = tokenizer.apply_chat_template(CHATS[chat], tokenize=True, return_dict=False, add_generation_prompt=True)
    for ids, tail in reward.read([Prompt("0", CHATS[chat], "")], [RESPONSES]):
        assert ids[: len(asked)] == asked or name in {"DeepSeek R1", "plain marks"}
        assert tail
