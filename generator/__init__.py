"""Stowage: compiles one reviewed inventory into a bundle that brings up a highly available Kubernetes control plane.

The command line (``stowage``) is the interface; this package's modules are its rooms, described in ``docs/architecture.md``.
"""

__version__ = "0.1.0"
