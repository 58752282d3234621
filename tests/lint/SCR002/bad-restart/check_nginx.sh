#!/bin/bash
curl -m 1 -sf http://127.0.0.1/ && exit 0
systemctl restart nginx.service # expect: SCR002
exit 1
