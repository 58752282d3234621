#!/bin/bash
curl -m 1 -sf http://127.0.0.1/ || {
    service nginx start # expect: SCR002
    exit 1
}
