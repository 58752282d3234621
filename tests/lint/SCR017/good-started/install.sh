#!/bin/bash
systemctl enable --now nginx
systemctl enable keepalived
systemctl start keepalived
