#!/bin/bash
# systemctl stop keepalived
killall -0 keepalived || exit 1
systemctl is-active keepalived || exit 1
echo 'systemctl stop keepalived'
