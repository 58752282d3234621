#!/bin/bash
dnf install -y keepalived
systemctl stop keepalived
systemctl enable --now keepalived
