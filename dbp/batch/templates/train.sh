# Runs a launcher, in the background, as a shell that waits in the foreground hears no signal. How it went is told by
# the run itself, if it was not refused (2) and has begun: a launcher may end with 0 though it has lost a node.
train() {
    cancelled=
    if ! { mkdir -p "$run" && rm -f "$run/stop" && touch "$run/.job"; }; then
        last "failed with code 74: its folder cannot be written to" 74
    fi
    # A run saves and stops where it finds a file, which no launcher dies of.@cancelled@
    trap 'touch "$run/stop"' @warned@
    trap '@cancel@; touch "$run/stop"' TERM INT HUP
    "$@" &
    while kill -0 $! 2>/dev/null; do wait $!; done
    wait $!
    code=$?
    trap : @warned@
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
