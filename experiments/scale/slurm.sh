#!/bin/bash
# A run on two nodes of four GPUs that survives pre-emption and time limits: SLURM warns it two minutes before, it saves
# and ends, is queued again and goes on. The run's folder must be on a file system that all nodes share.
# Submit: sbatch experiments/scale/slurm.sh my-run experiments/paper.yaml
# A policy that fits no card: sbatch experiments/scale/slurm.sh my-run my.yaml experiments/scale/fsdp.yaml
#SBATCH --nodes=2
#SBATCH --ntasks-per-node=4
#SBATCH --gpus-per-node=4
#SBATCH --requeue
#SBATCH --signal=USR1@120
#SBATCH --open-mode=append
set -u
name=$1 config=$2 strategy=${3:-experiments/scale/ddp.yaml}
resume=$([ -d "runs/$name" ] && echo --resume)
srun python -m laser_pl fit --config "$config" --config "$strategy" --name "$name" \
    --trainer.num_nodes="$SLURM_NNODES" --trainer.devices="$SLURM_NTASKS_PER_NODE" $resume
code=$?
[ "$code" -eq $((128 + 10)) ] && scontrol requeue "$SLURM_JOB_ID" # 10 is SIGUSR1: it was asked to end
exit "$code"
