#!/bin/bash
# Trains in jobs of OpenPBS or PBS Pro, which submit one another until the run is finished.
#   submit:     @submit@
#   last line:  run @run@: finished | continued by job ID | cancelled | failed with code CODE
#PBS -N @name@
#PBS -l select=@nodes@:ncpus=@cores_per_node@:mpiprocs=@ranks_per_node@:ompthreads=@threads@
#PBS -l place=scatter
#PBS -l walltime=@time@
#PBS -j oe
#PBS -o @folder@/
# A site may want these:
#PBS -A @account?@
#PBS -q @queue?@

cd "$PBS_O_WORKDIR" || exit 1
# A site changes this: what dbp and its MPI need, such as: module load openmpi
@environment@
export OMP_NUM_THREADS=@threads@
python=@python@

script=@script@
out=@run@
run=$out${PBS_ARRAY_INDEX:+-$PBS_ARRAY_INDEX} # dbp gives each task of an array a folder of its own
job=${DBP_JOB:-1} most=@most_jobs@

@shared@

train @launch@
conclude
# A site that lets no job submit another: leave this out, and submit by hand what ends with 75.
next=$(qsub -v DBP_JOB=$((job + 1)) ${PBS_ARRAY_INDEX:+-J "$PBS_ARRAY_INDEX-$((PBS_ARRAY_INDEX + 1)):2"} "$script") ||
    last "failed with code 75: qsub could not submit it again" 75
last "continued by job $next" 0
