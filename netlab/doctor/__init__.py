"""What netlab needs of a machine: whether it is there, what breaks without it, and the remedy.

`netlab doctor` really tries everything, in throwaway namespaces (`examine`). `netlab up` only looks for the programs
that its lab will call (`require`), which costs microseconds.
"""

from netlab.doctor.programs import require

__all__ = ["require"]
