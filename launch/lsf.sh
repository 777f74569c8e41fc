#!/bin/bash
# Trains in jobs of LSF: each submits the next until the run is finished.
#   submit:     bsub < launch/lsf.sh
#   last line:  run runs/digits: finished | continued by job ID | cancelled | failed with code CODE
#BSUB -J dbp-digits
#BSUB -n 4
#BSUB -R "span[ptile=2] affinity[core(1)]"
#BSUB -W 4:00
#BSUB -wa URG
#BSUB -wt 2
#BSUB -o digits-%J.out
# Your site may need these:
##BSUB -P NAME
##BSUB -q NAME

cd "$LS_SUBCWD" || exit 1
# Change this for your site: what dbp and its MPI need, such as module load openmpi
export PATH="$PWD/.venv/bin:$PATH"
export OMP_NUM_THREADS=1
# Arrays in huge pages
export GLIBC_TUNABLES="${GLIBC_TUNABLES:-glibc.malloc.hugetlb=1}"
python=python

script=launch/lsf.sh
out=runs/digits
task=${LSB_JOBINDEX#0} # empty, or an index in an array
run=$out${task:+-$task} # dbp gives each task of an array its own folder
job=${DBP_JOB:-1} most=20

# Runs a launcher and sets $code. Once the run has begun, $code comes from its
# status: a launcher may end with 0 although it has lost a node.
train() {
    cancelled=
    if ! { mkdir -p "$run" && rm -f "$run/stop" && touch "$run/.job"; }; then
        last "failed with code 74: cannot write to its folder" 74
    fi
    # A run that finds this file saves and stops. Unlike a signal, it cannot kill
    # the launcher.
    # TERM comes from the time limit if that is near; before, it cancels the job.
    trap 'touch "$run/stop"' URG
    trap '[ "$SECONDS" -ge 14385 ] || cancelled=yes; touch "$run/stop"' TERM INT HUP
    launch "$@"
    # Open MPI's launcher ends with 213 if it could not start itself, which a
    # busy node may cause: then once more.
    if [ "$code" -eq 213 ] && [ -z "$cancelled" ] && ! has_begun; then
        sleep 5
        [ -n "$cancelled" ] || launch "$@"
    fi
    trap : URG
    rm -f "$run/stop"
    if [ "$code" -ne 2 ] && has_begun; then
        "$python" -m dbp status "$run" --quiet --wait 90
        code=$?
    elif [ "$code" -eq 0 ] || [ "$code" -eq 75 ]; then
        code=1
    fi
}

# Runs a launcher in the background, as a shell gets no signal while it waits
# for a command in the foreground; sets $code.
launch() {
    "$@" &
    while kill -0 $! 2>/dev/null; do wait $!; done
    wait $!
    code=$?
}

# Whether the run has written its status in this job.
has_begun() {
    [ "$run/status.json" -nt "$run/.job" ]
}

# Prints the last line and ends the job, unless another job must continue the run.
conclude() {
    [ "$code" -ne 0 ] || last finished 0
    [ -z "$cancelled" ] || last "cancelled; submit it again to resume" 143
    [ "$code" -eq 75 ] || last "failed with code $code" "$code"
    [ "$job" -lt "$most" ] ||
        last "failed with code 75: not finished after $job jobs; submit it again to resume" 75
}

last() {
    echo "run $run: $1"
    exit "$2"
}

train mpirun -n 4 --hostfile "$LSB_DJOB_HOSTFILE" --map-by \
    slot:PE=1:OVERSUBSCRIBE --bind-to core:overload-allowed -x \
    OMP_NUM_THREADS -x GLIBC_TUNABLES "$python" -m dbp train \
    examples/digits.toml --out "$out" --time-limit auto
conclude
answer=$(DBP_JOB=$((job + 1)) bsub ${task:+-J "dbp-digits[$task]"} < "$script") ||
    last "failed with code 75: bsub could not submit it again" 75
next=${answer#*<}
last "continued by job ${next%%>*}" 0
