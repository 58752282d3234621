"""A RHEL-like host of the lab: what of it stands in for a Red Hat release on the Debian base.

``layer`` fills the directory that lies over the base, ``packages`` makes the "rpm" files of a payload. The other modules run on the host, where
this folder is /opt/lab/rhel_stand_ins: the commands behind rpm, dnf, firewall-cmd, semanage and so on. They know the forms that the
bundle's scripts use, refuse what the real ones refuse, and end with 97 at a form that nobody has stood in for yet.
"""

from lab.rhel.layer import DIGEST, HERE, INSIDE, lay
from lab.rhel.packages import packages, rpm

__all__ = ["DIGEST", "HERE", "INSIDE", "lay", "packages", "rpm"]
