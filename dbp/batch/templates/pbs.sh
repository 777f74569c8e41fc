#!/bin/bash
# Trains in jobs of OpenPBS or PBS Pro: each submits the next until the run is finished.
#   submit:     @submit@
#   last line:  run @run@: finished | continued by job ID | cancelled | failed with code CODE
#PBS -N @name@
#PBS -l select=@nodes@:ncpus=@cores_per_node@:mpiprocs=@ranks_per_node@:ompthreads=@threads@
#PBS -l place=scatter
#PBS -l walltime=@time@
#PBS -j oe
#PBS -o @folder@/
# Your site may need these:
#PBS -A @account?@
#PBS -q @queue?@

cd "$PBS_O_WORKDIR" || exit 1
# Change this for your site: what dbp and its MPI need, such as module load openmpi
@environment@
export OMP_NUM_THREADS=@threads@
@huge_pages@
python=@python@

script=@script@
out=@run@
run=$out${PBS_ARRAY_INDEX:+-$PBS_ARRAY_INDEX} # dbp gives each task of an array its own folder
job=${DBP_JOB:-1} most=@most_jobs@

@shared@

train @launch@
conclude
# If your site forbids jobs to submit jobs: remove this, and submit the script again when a job ends
# with 75.
next=$(qsub -v DBP_JOB=$((job + 1)) \
    ${PBS_ARRAY_INDEX:+-J "$PBS_ARRAY_INDEX-$((PBS_ARRAY_INDEX + 1)):2"} "$script") ||
    last "failed with code 75: qsub could not submit it again" 75
last "continued by job $next" 0
