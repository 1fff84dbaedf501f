#!/bin/bash
# Compares the solutions on all nodes of a SLURM job, by a Ray cluster within its allocation.
# From the project's folder, which all nodes see, with .venv in it:
#
#     sbatch docs/how-to/compare_on_slurm.sh --data my.yaml --name mine
#
# Where the time runs out the trainings stop after their batch; the same command goes on.
# On GPUs add --gpus-per-node, to sbatch or below.
#SBATCH --job-name=compare
#SBATCH --nodes=4
#SBATCH --ntasks-per-node=1
#SBATCH --cpus-per-task=16
#SBATCH --time=24:00:00
#SBATCH --signal=B:TERM@300
set -euo pipefail
cd "$SLURM_SUBMIT_DIR"
export PATH="$PWD/.venv/bin:$PATH"

head=$(hostname)  # this script runs on the first node
port=$((20000 + SLURM_JOB_ID % 10000))
export RAY_TMPDIR="/tmp/ray-$SLURM_JOB_ID"  # on each node; /tmp/ray may be another user's
export RAY_USAGE_STATS_ENABLED=0
# Who can reach Ray's ports can run programs as you, but for this token
export RAY_AUTH_MODE=token
export RAY_AUTH_TOKEN_PATH="$PWD/.ray-token-$SLURM_JOB_ID"
trap 'rm -f "$RAY_AUTH_TOKEN_PATH"' EXIT
(umask 077 && python -c 'import secrets; print(secrets.token_hex(), end="")' > "$RAY_AUTH_TOKEN_PATH")

start=(--cpus-per-task="$SLURM_CPUS_PER_TASK" --ntasks-per-node=1)
node=(ray start --block --num-cpus="$SLURM_CPUS_PER_TASK")
srun "${start[@]}" --nodes=1 --nodelist="$head" \
    "${node[@]}" --head --port="$port" --include-dashboard=false &
timeout 300 bash -c "until (exec 3<>/dev/tcp/$head/$port) 2>/dev/null; do sleep 1; done"
if [ "$SLURM_JOB_NUM_NODES" -gt 1 ]; then
    srun "${start[@]}" --nodes=$((SLURM_JOB_NUM_NODES - 1)) --exclude="$head" \
        "${node[@]}" --address="$head:$port" &
fi

python compare_solutions.py --engine ray --address "$head:$port" "$@" &
comparison=$!
trap 'kill -TERM "$comparison"' TERM
code=0
while kill -0 "$comparison" 2>/dev/null; do  # a signal ends a wait early
    wait "$comparison" && code=0 || code=$?
done
exit "$code"  # SLURM ends Ray with the job
