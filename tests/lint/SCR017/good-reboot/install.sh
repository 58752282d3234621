#!/bin/bash
systemctl enable keepalived
reboot
