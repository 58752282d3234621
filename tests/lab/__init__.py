"""The lab: rehearsal hosts with a real systemd, nginx and keepalived on one bridge, on which a bundle's own scripts run.

``base`` builds the root file system once, ``hosts`` boots hosts from it, ``payload`` gathers what a host's folder carries besides.
Everything lives in namespaces of this machine; nothing outside of them changes, and nothing outlives the process that made them.
"""
