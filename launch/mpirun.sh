#!/bin/bash
# Trains on this machine, and starts again what ends before it is finished, such as after a lost rank.
#   submit:     bash launch/mpirun.sh
#   last line:  run runs/digits: finished | cancelled | failed with code CODE

# A site changes this: what dbp and its MPI need, such as: module load openmpi
export PATH="$PWD/.venv/bin:$PATH"
export OMP_NUM_THREADS=1
python=python

out=runs/digits
run=$out
job=1 most=20

# Runs a launcher, in the background, as a shell that waits in the foreground hears no signal. How it went is told by
# the run itself, if it was not refused (2) and has begun: a launcher may end with 0 though it has lost a node.
train() {
    cancelled=
    if ! { mkdir -p "$run" && rm -f "$run/stop" && touch "$run/.job"; }; then
        last "failed with code 74: its folder cannot be written to" 74
    fi
    # A run saves and stops where it finds a file, which no launcher dies of.
    trap 'touch "$run/stop"' USR1
    trap 'cancelled=yes; touch "$run/stop"' TERM INT HUP
    "$@" &
    while kill -0 $! 2>/dev/null; do wait $!; done
    wait $!
    code=$?
    trap : USR1
    rm -f "$run/stop"
    if [ "$code" -ne 2 ] && [ "$run/status.json" -nt "$run/.job" ]; then
        "$python" -m dbp status "$run" --quiet --wait 90
        code=$?
    elif [ "$code" -eq 0 ] || [ "$code" -eq 75 ]; then
        code=1
    fi
}

# Says the last line and ends the job, unless the run is to be continued.
conclude() {
    [ "$code" -ne 0 ] || last finished 0
    [ -z "$cancelled" ] || last "cancelled; submitted again it goes on" 143
    [ "$code" -eq 75 ] || last "failed with code $code" "$code"
    [ "$job" -lt "$most" ] || last "failed with code 75: not finished after $job jobs; submitted again it goes on" 75
}

last() {
    echo "run $run: $1"
    exit "$2"
}

# Several machines: add --hostfile FILE, whose lines are NAME slots=RANKS.
while :; do
    train mpirun -n 4 --map-by slot:PE=1:OVERSUBSCRIBE --bind-to core:overload-allowed -x OMP_NUM_THREADS \
        "$python" -m dbp train examples/digits.toml --out "$out"
    conclude
    job=$((job + 1))
    echo "run $run: continued, start $job of at most $most"
done
