#!/bin/bash
# One run over several machines of a Slurm cluster, a process for each GPU:
#
#   sbatch --nodes=2 --ntasks-per-node=4 --gpus-per-task=1 launch/slurm.sh \
#     --config=configs/shallow_mnist.py --config.replicas.seeds=8 --workdir=/shared/runs/shallow
#
# The workdir must be on a file system that all machines share. SIGTERM, a minute before the time
# limit, has the run saved; the same command goes on from there. MODULE=adv_jax.evaluate in the
# environment attacks a trained model instead.
#SBATCH --job-name=adv_jax
#SBATCH --signal=TERM@60

exec srun --kill-on-bad-exit=1 python -m "${MODULE:-adv_jax.main}" --coordinator=auto "$@"
