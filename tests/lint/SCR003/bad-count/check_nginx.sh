#!/bin/bash
if [ $(ps -C nginx --no-header | wc -l) -eq 0 ]; then exit 1; fi
count=$(ps -ef | grep nginx | grep -v grep | wc -l) # expect: SCR003
[ "$count" -gt 0 ] || exit 1
