"""What all tests tell the launchers of MPI, and how those are started that tests.jobs.run() does not start."""

from dbp.batch.launcher_process import NOT_STARTED

# Before the words of a launcher: starts it once more if Open MPI's could not start itself, as on a busy machine.
ONCE_MORE = ("bash", "-c", f'"$@"; code=$?; [ $code -ne {NOT_STARTED} ] || exec "$@"; exit $code', "bash")

LAUNCHER_SETTINGS = {  # to start more ranks than cores, as root, without searching for networks
    "OMPI_ALLOW_RUN_AS_ROOT": "1",
    "OMPI_ALLOW_RUN_AS_ROOT_CONFIRM": "1",
    "OMPI_MCA_pml": "ob1",
    "OMPI_MCA_btl": "^ofi",
    "OMPI_MCA_mpi_yield_when_idle": "1",
    "PRTE_MCA_rmaps_default_mapping_policy": ":oversubscribe",
    "PRTE_MCA_hwloc_default_binding_policy": "none",
    "OMPI_MCA_rmaps_base_oversubscribe": "1",
    "OMP_NUM_THREADS": "1",
    "OPENBLAS_NUM_THREADS": "1",
}
