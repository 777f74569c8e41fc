#!/bin/bash
# Trains in jobs of Flux: each submits the next until the run is finished.
#   submit:     @submit@
#   last line:  run @run@: finished | continued by job ID | cancelled | failed with code CODE
#flux: --job-name=@name@
#flux: --nodes=@nodes@
#flux: --nslots=@ranks@
#flux: --cores-per-slot=@threads@
#flux: --time-limit=@seconds@s
#flux: --signal=USR1@@lead@s
#flux: --output=@log@-{{id}}.out
# Your site may need these:
#flux: --bank=@account?@
#flux: --queue=@queue?@

# Change this for your site: what dbp and its MPI need, such as module load openmpi
@environment@
export OMP_NUM_THREADS=@threads@
@huge_pages@
python=@python@

script=@script@
out=@run@
run=$out
job=${DBP_JOB:-1} most=@most_jobs@

@shared@

train @launch@
conclude
next=$(flux --parent batch --env="DBP_JOB=$((job + 1))" "$script") ||
    last "failed with code 75: flux could not submit it again" 75
last "continued by job $next" 0
