#!/bin/bash
set -e
sysctl -w net.ipv4.ip_nonlocal_bind=1
