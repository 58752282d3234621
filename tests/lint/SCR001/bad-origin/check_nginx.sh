#!/bin/bash
# keepalived
if ! curl -m 1 -sf http://127.0.0.1:16444/; then
    service keepalived stop # expect: SCR001
    exit 1
fi
