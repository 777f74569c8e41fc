#!/bin/bash
# Trains on this machine. It starts the run again if that ends before it is finished, such as after
# a lost rank.
#   submit:     @submit@
#   last line:  run @run@: finished | cancelled | failed with code CODE

# Change this for your site: what dbp and its MPI need, such as module load openmpi
@environment@
export OMP_NUM_THREADS=@threads@
@huge_pages@
python=@python@

out=@run@
run=$out
job=1 most=@most_jobs@

@shared@

# Several machines: add --hostfile FILE, whose lines are NAME slots=RANKS.
while :; do
    train @launch@
    conclude
    job=$((job + 1))
    echo "run $run: continued, start $job of at most $most"
done
