# Runs a launcher and sets $code. Once the run has begun, $code comes from its
# status: a launcher may end with 0 although it has lost a node.
train() {
    cancelled=
    if ! { mkdir -p "$run" && rm -f "$run/stop" && touch "$run/.job"; }; then
        last "failed with code 74: cannot write to its folder" 74
    fi
    # A run that finds this file saves and stops. Unlike a signal, it cannot kill
    # the launcher.@why@
    trap 'touch "$run/stop"' @signal@
    trap '@cancel@; touch "$run/stop"' TERM INT HUP
    launch "$@"
    # Open MPI's launcher ends with @not_started@ if it could not start itself, which a
    # busy node may cause: then once more.
    if [ "$code" -eq @not_started@ ] && [ -z "$cancelled" ] && ! has_begun; then
        sleep 5
        [ -n "$cancelled" ] || launch "$@"
    fi
    trap : @signal@
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
