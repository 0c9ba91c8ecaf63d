#!/bin/bash
# One run over several machines that ssh reaches, a process on each:
#
#   HOSTS="node1 node2" launch/hosts.sh --config=configs/shallow_mnist.py --workdir=/shared/run
#
# The folder from which this is called, its virtual environment and the workdir must be the same on
# all of them. "localhost" is this machine, without ssh; PORT is the first machine's (12321).
# MODULE=adv_jax.evaluate attacks a trained model instead.
set -euo pipefail

read -ra hosts <<<"${HOSTS:?allowed is a list of machines, such as HOSTS='node1 node2'}"
port=${PORT:-12321}
python=$(command -v python)
trap 'jobs=$(jobs -p); [ -z "$jobs" ] || kill $jobs 2>/dev/null' TERM INT

processes=()
for i in "${!hosts[@]}"; do
  command=("$python" -m "${MODULE:-adv_jax.main}" --coordinator="${hosts[0]}:$port"
    --num_processes="${#hosts[@]}" --process_id="$i" "$@")
  if [ "${hosts[$i]}" = localhost ]; then
    "${command[@]}" &
  else
    # -tt: what ends here ends there too.
    ssh -tt "${hosts[$i]}" "cd $(printf %q "$PWD") && exec $(printf '%q ' "${command[@]}")" &
  fi
  processes+=($!)
done

status=0
for process in "${processes[@]}"; do
  wait "$process" || status=$?
  # A signal ends this wait; the process first saves its epoch.
  while kill -0 "$process" 2>/dev/null; do
    wait "$process" || status=$?
  done
done
exit "$status"
