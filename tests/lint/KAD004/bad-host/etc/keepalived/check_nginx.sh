#!/bin/bash
if ! curl -sf -m 1 http://127.0.0.1:16444/; then
    sleep 2 # expect: KAD004
    sleep 1
    curl -sf -m 1 http://127.0.0.1:16444/ || exit 1
fi
