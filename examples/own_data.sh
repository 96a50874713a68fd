#!/bin/sh
# From your own CSV to a server: `sh examples/own_data.sh FOLDER`, about a minute on two cores.
# To be quick, the search has only two trials of small models. For a real search leave out `--trials` and each `--set`.
set -eu
mkdir -p "$1"
cd "$1"

# Your own data: any CSV with a column of texts and a column of labels. Here, made-up tickets for three teams.
awk 'BEGIN {
    srand(0)
    split("invoice refund payment card price charged", billing, " ")
    split("parcel courier address late arrived box", shipping, " ")
    split("password login account locked email code", access, " ")
    print "id,body,team"
    for (number = 0; number < 240; number++) {
        one = int(6 * rand()) + 1; two = int(6 * rand()) + 1
        if (number % 3 == 0) print number ",my " billing[one] " and " billing[two] " again: ticket " number ",billing"
        if (number % 3 == 1) print number ",my " shipping[one] " and " shipping[two] " again: ticket " number ",shipping"
        if (number % 3 == 2) print number ",my " access[one] " and " access[two] " again: ticket " number ",access"
    }
}' >tickets.csv

tlm-search init --task tickets.csv space.yaml
tlm-search run space.yaml --trials 2 \
    --set search.depth=1 --set search.width=32 --set search.committee_size=2 --set search.finetune_epochs=3 \
    --set reference.depth=2 --set reference.trials=1
tlm-search best space
tlm-search export space --out winner
tlm-search predict winner "my parcel arrived late"

# Get the same answer over HTTP, from a free port of this machine. The server ends with this script.
tlm-search serve winner --port 0 2>server.txt &
server=$!
trap 'kill "$server"' EXIT
trap 'exit 1' INT TERM
until grep -q '^serving' server.txt; do kill -0 "$server" || { cat server.txt; exit 1; }; sleep 0.1; done
url=$(sed -n 's/^serving .* at \([^ ]*\) .*/\1/p' server.txt)
curl -sS "$url/predict" -H 'content-type: application/json' -d '{"texts": ["my parcel arrived late"]}'
