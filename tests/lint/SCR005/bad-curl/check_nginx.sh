#!/bin/bash
curl -sf -o /dev/null http://127.0.0.1:16444/ || exit 1 # expect: SCR005
nc -z 127.0.0.1 16444 || exit 1 # expect: SCR005
