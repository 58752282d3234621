#!/bin/bash
curl -m 1 -sf http://127.0.0.1/ || killall keepalived # expect: SCR001
