#!/bin/bash
counter=$(pgrep -c nginx)
if [ $counter -eq 0 ]; then
    exit 1
fi
