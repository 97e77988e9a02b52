#!/usr/bin/env bash
# Start the server that experiments/engines/vllm.yaml samples with, on the model that model.weights.name names.
# Run:    experiments/engines/vllm.sh FOLDER_OR_NAME [OPTIONS OF vllm serve]
# Needs:  a virtual environment of its own with vLLM (0.10 or newer), by `pip install vllm`; here `vllm` must be its command.
# Note:   --max-lora-rank is at least model.lora.rank. For one card for both, add --enable-sleep-mode and set
#         model.engine.init_args.sleep: true. On a card of its own, set CUDA_VISIBLE_DEVICES.
set -euo pipefail
# The second lets a run ask what the server was started with, and put it to sleep.
export VLLM_ALLOW_RUNTIME_LORA_UPDATING=1 VLLM_SERVER_DEV_MODE=1
exec vllm serve "$1" --served-model-name policy --host 127.0.0.1 --port 8000 \
  --enable-lora --max-lora-rank 16 --max-loras 2 --generation-config vllm "${@:2}"
