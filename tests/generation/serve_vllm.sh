#!/usr/bin/env bash
# Start vLLM for CPUs on a tiny model, run the engine's tests against it, and stop it.
set -euo pipefail
folder=$(mktemp -d)
"$PYTHON" -m tests.servable "$folder/policy"
export HF_HUB_OFFLINE=1 VLLM_NO_USAGE_STATS=1 DO_NOT_TRACK=1 OMP_NUM_THREADS=1
VLLM_ALLOW_RUNTIME_LORA_UPDATING=1 VLLM_SERVER_DEV_MODE=1 VLLM_CPU_KVCACHE_SPACE=1 VLLM_CPU_OMP_THREADS_BIND=nobind \
  setsid .venv-vllm/bin/python -m vllm.entrypoints.openai.api_server --model "$folder/policy" \
  --served-model-name policy --enforce-eager --dtype float32 --max-model-len 400 --enable-lora --max-lora-rank 16 \
  --max-loras 2 --host 127.0.0.1 --port "${PORT:-8123}" >"$folder/log.txt" 2>&1 &
server=$!
trap 'kill -- -$server 2>/dev/null || true; rm -rf "$folder"' EXIT
for _ in $(seq 300); do
  curl --silent --fail "http://127.0.0.1:${PORT:-8123}/health" >/dev/null && break
  kill -0 $server 2>/dev/null || { cat "$folder/log.txt"; exit 1; }
  sleep 1
done
LASER_VLLM="http://127.0.0.1:${PORT:-8123}" LASER_VLLM_MODEL="$folder/policy" "$PYTHON" -m pytest -q tests/generation/test_vllm.py
