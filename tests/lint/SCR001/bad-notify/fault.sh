#!/bin/bash
logger "keepalived: $1"
timeout 5 systemctl stop keepalived # expect: SCR001
