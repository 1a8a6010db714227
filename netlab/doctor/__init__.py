"""What netlab needs of a machine: whether it is there, what its lack costs, and the remedy.

`netlab doctor` really tries everything, in namespaces that vanish with the trial (`examine`). `netlab up` asks only
for the programs that its lab will call (`require`), which costs microseconds.
"""

from netlab.doctor.programs import require

__all__ = ["require"]
