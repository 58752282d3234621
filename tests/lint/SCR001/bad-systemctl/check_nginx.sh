#!/bin/bash
if [ "$(curl -m 1 -so /dev/null -w "%{http_code}" http://127.0.0.1/)" != 200 ]; then
    sudo /usr/bin/systemctl stop keepalived.service # expect: SCR001
    exit 1
fi
