#!/bin/sh
# Several machines, simulated on one: `sh examples/several_machines.sh FOLDER`, about half a minute.
# Two nodes of a Ray cluster run a study with made-up results. On real machines, use their addresses, run each `ray start`
# on its own machine, and choose a FOLDER that all of them share.
set -eu
space=$(cd "$(dirname "$0")/../spaces" && pwd)/simulated.yaml
mkdir -p "$1"
cd "$1"
export RAY_USAGE_STATS_ENABLED=0
port=$(python -c 'import socket; s = socket.socket(); s.bind(("127.0.0.2", 0)); print(s.getsockname()[1])')

# Anyone who knows the token can run any code on the cluster.
export RAY_AUTH_MODE=token RAY_AUTH_TOKEN="$(python -c 'import secrets; print(secrets.token_hex(32))')"

nodes=""
trap 'kill $nodes || true; wait || true' EXIT
trap 'exit 1' INT TERM
start() {  # arguments: the log, then options of `ray start`; waits until the node has started
    log=$1
    shift
    ray start --block --num-cpus 1 --object-store-memory 80000000 "$@" >"$log" 2>&1 &
    nodes="$nodes $!"
    until grep -q 'Ray runtime started' "$log"; do kill -0 "$!" || { cat "$log"; exit 1; }; sleep 0.1; done
}
start first.txt --head --node-ip-address 127.0.0.2 --port "$port" --include-dashboard false
start second.txt --address "127.0.0.2:$port" --node-ip-address 127.0.0.3

tlm-search run "$space" --address "127.0.0.2:$port" --studies-dir shared/studies --trials 12
tlm-search status simulated --studies-dir shared/studies
