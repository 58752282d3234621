#!/bin/bash
systemctl daemon-reload
systemctl enable keepalived.service # expect: SCR017
systemctl enable --now nginx.service
