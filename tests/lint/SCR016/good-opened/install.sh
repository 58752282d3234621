#!/bin/bash
getenforce
setenforce 1
systemctl enable --now firewalld
firewall-cmd --permanent --add-port=6443/tcp
