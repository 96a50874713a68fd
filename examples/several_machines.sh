#!/bin/sh
# Several machines, tried on one: `sh examples/several_machines.sh FOLDER`, about half a minute.
# Two nodes of a Ray cluster run a study with made-up results. On real machines the addresses are theirs, each `ray start`
# is typed on its own machine, and FOLDER is one that all of them share.
set -eu
space=$(cd "$(dirname "$0")/../spaces" && pwd)/simulated.yaml
mkdir -p "$1"
cd "$1"
export RAY_USAGE_STATS_ENABLED=0
port=$(python -c 'import socket; s = socket.socket(); s.bind(("127.0.0.2", 0)); print(s.getsockname()[1])')

# Who knows the token may run anything on the cluster.
export RAY_AUTH_MODE=token RAY_AUTH_TOKEN="$(python -c 'import secrets; print(secrets.token_hex(32))')"

nodes=""
trap 'kill $nodes || true; wait || true' EXIT
trap 'exit 1' INT TERM
start() {  # first its log, then options of `ray start`; waits until the node is there
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
