#!/bin/bash
# keepalived asks this
curl -sf -m 2 -o /dev/null http://127.0.0.1:16444/ || exit 1
