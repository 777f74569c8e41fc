#!/bin/bash
# Trains in jobs of LSF, which submit one another until the run is finished.
#   submit:     bsub < launch/lsf.sh
#   last line:  run runs/digits: finished | continued by job ID | cancelled | failed with code CODE
#BSUB -J dbp-digits
#BSUB -n 4
#BSUB -R "span[ptile=2] affinity[core(1)]"
#BSUB -W 4:00
#BSUB -wa URG
#BSUB -wt 2
#BSUB -o digits-%J.out
# A site may want these:
##BSUB -P NAME
##BSUB -q NAME

cd "$LS_SUBCWD" || exit 1
# A site changes this: what dbp and its MPI need, such as: module load openmpi
export PATH="$PWD/.venv/bin:$PATH"
export OMP_NUM_THREADS=1
python=python

script=launch/lsf.sh
out=runs/digits
task=${LSB_JOBINDEX#0} # none, or a number in an array
run=$out${task:+-$task} # dbp gives each task of an array a folder of its own
job=${DBP_JOB:-1} most=20

# Runs a launcher, in the background, as a shell that waits in the foreground hears no signal. How it went is told by
# the run itself, if it was not refused (2) and has begun: a launcher may end with 0 though it has lost a node.
train() {
    cancelled=
    if ! { mkdir -p "$run" && rm -f "$run/stop" && touch "$run/.job"; }; then
        last "failed with code 74: its folder cannot be written to" 74
    fi
    # A run saves and stops where it finds a file, which no launcher dies of. TERM before the time is up is a cancellation.
    trap 'touch "$run/stop"' URG
    trap '[ "$SECONDS" -ge 14385 ] || cancelled=yes; touch "$run/stop"' TERM INT HUP
    "$@" &
    while kill -0 $! 2>/dev/null; do wait $!; done
    wait $!
    code=$?
    trap : URG
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

train mpirun -n 4 --hostfile "$LSB_DJOB_HOSTFILE" --map-by slot:PE=1:OVERSUBSCRIBE --bind-to \
    core:overload-allowed -x OMP_NUM_THREADS "$python" -m dbp train examples/digits.toml --out "$out" \
    --time-limit auto
conclude
answer=$(DBP_JOB=$((job + 1)) bsub ${task:+-J "dbp-digits[$task]"} < "$script") ||
    last "failed with code 75: bsub could not submit it again" 75
next=${answer#*<}
last "continued by job ${next%%>*}" 0
