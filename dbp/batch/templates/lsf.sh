#!/bin/bash
# Trains in jobs of LSF: each submits the next until the run is finished.
#   submit:     @submit@
#   last line:  run @run@: finished | continued by job ID | cancelled | failed with code CODE
#BSUB -J @name@
#BSUB -n @ranks@
#BSUB -R "span[ptile=@ranks_per_node@] affinity[core(@threads@)]"
#BSUB -W @minutes@
#BSUB -wa URG
#BSUB -wt @lead_minutes@
#BSUB -o @log@-%J.out
# Your site may need these:
#BSUB -P @account?@
#BSUB -q @queue?@

cd "$LS_SUBCWD" || exit 1
# Change this for your site: what dbp and its MPI need, such as module load openmpi
@environment@
export OMP_NUM_THREADS=@threads@
@huge_pages@
python=@python@

script=@script@
out=@run@
task=${LSB_JOBINDEX#0} # empty, or an index in an array
run=$out${task:+-$task} # dbp gives each task of an array its own folder
job=${DBP_JOB:-1} most=@most_jobs@

@shared@

train @launch@
conclude
answer=$(DBP_JOB=$((job + 1)) bsub ${task:+-J "@name@[$task]"} < "$script") ||
    last "failed with code 75: bsub could not submit it again" 75
next=${answer#*<}
last "continued by job ${next%%>*}" 0
