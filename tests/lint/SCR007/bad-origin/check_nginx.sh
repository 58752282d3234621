#!/bin/bash
counter=$(pgrep -c nginx)
if [ $counter -eq 0 ]; then
    service keepalived stop # expect: SCR007
fi
