"""A laboratory: hosts in network namespaces, real programs in them, and faults that can be undone.

Law: everything is real (the kernel's own network, real processes) and everything is gone afterwards.
"""

from tether_gauntlet.lab import faults, names
from tether_gauntlet.lab.building import Lab
from tether_gauntlet.lab.capabilities import Missing, probe, require
from tether_gauntlet.lab.fault import Fault
from tether_gauntlet.lab.host import Host
from tether_gauntlet.lab.program import Program
from tether_gauntlet.lab.shell import LabError
from tether_gauntlet.lab.stack import LabStack
from tether_gauntlet.lab.topology import Node, Topology, internet

__all__ = [
    "Fault",
    "Host",
    "Lab",
    "LabError",
    "LabStack",
    "Missing",
    "Node",
    "Program",
    "Topology",
    "faults",
    "internet",
    "names",
    "probe",
    "require",
]
