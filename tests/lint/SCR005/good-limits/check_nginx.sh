#!/bin/bash
curl -sfm2 -o /dev/null http://127.0.0.1:16444/ || exit 1
timeout 2 curl -sf http://127.0.0.1:16444/ || exit 1
nc -zw 2 127.0.0.1 16444 || exit 1
curl $options http://127.0.0.1:16444/ || exit 1
