"""Whether a unit of work fits a machine of a cluster, and what to say where it fits none; knows nothing of Ray."""

from collections.abc import Mapping, Sequence

from tapfm_eval.stages.graph import Resources


def fits(wanted: Resources, machine: Mapping[str, float]) -> bool:
    """Whether a machine has the means that a unit asks for; under Ray's names (`CPU`, `GPU`, `memory` in bytes)."""
    return (
        wanted.cpus <= machine.get("CPU", 0)
        and wanted.gpus <= machine.get("GPU", 0)
        and wanted.memory_mb * 2**20 <= machine.get("memory", 0)
    )


def remedy_for(wanted: Resources, machines: Sequence[Mapping[str, float]]) -> str:
    """What helps where a unit fits no machine: fewer cores do not where it is the GPU that is missing."""
    if wanted.gpus > max((machine.get("GPU", 0.0) for machine in machines), default=0.0):
        return "Start Ray with --num-gpus where there are GPUs that it does not see; else give --device cpu."
    if wanted.gpus >= 1:
        return "Start Ray with more --num-cpus beside the GPUs, give fewer --workers, or add such a machine."
    return "Start Ray with more --num-cpus (or --memory), or add such a machine to the cluster."


def described(machines: Sequence[Mapping[str, float]]) -> str:
    """The machines in words, each kind once."""
    said = {
        str(Resources(machine.get("CPU", 0), machine.get("GPU", 0), machine.get("memory", 0) / 2**20)): None
        for machine in machines
    }
    return "; ".join(said) or "no machine at all"
