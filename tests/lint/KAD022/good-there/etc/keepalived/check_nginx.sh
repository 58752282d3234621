#!/bin/sh
curl -m 1 -sf http://127.0.0.1:16444/
