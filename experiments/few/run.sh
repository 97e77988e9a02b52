#!/usr/bin/env bash
# Eight questions of each category: asked, answered by a stand-in for a person, learned from, compared with what needs no answers.
# Run:    experiments/few/run.sh [PYTHON]
# Cost:   5 minutes on one CPU core.
set -euo pipefail
python=${1:-python} runs=runs/few
export OMP_NUM_THREADS=1
mkdir -p "$runs"
rm -rf "$runs"/labels.jsonl "$runs"/{few,default,paper}-*
"$python" -m laser_pl label --config experiments/quickstart.yaml --out "$runs/labels.jsonl" --per_category 8 < /dev/null
"$python" experiments/few/person.py "$runs/labels.jsonl"
for seed in 0 1; do
    for preset in few default paper; do
        labels=$([ "$preset" = few ] && echo "--selection.labels $runs/labels.jsonl" || true)
        # shellcheck disable=SC2086 # two words, or none
        "$python" -m laser_pl fit --config experiments/quickstart.yaml --config "experiments/presets/$preset.yaml" $labels \
            --seed_everything "$seed" --runs_dir "$runs" --name "$preset-$seed" --quiet
    done
done
"$python" -m laser_pl compare "$runs"/few-* "$runs"/default-* "$runs"/paper-* --baseline paper --out "$runs/comparison"
