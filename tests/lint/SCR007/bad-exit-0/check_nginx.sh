#!/bin/bash
counter=$(pgrep -c nginx)
if [ $counter -eq 0 ]; then
    systemctl stop keepalived # expect: SCR007
fi
exit 0
