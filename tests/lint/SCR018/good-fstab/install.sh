#!/bin/bash
swapoff -a
sed -i '/\sswap\s/s/^/#/' /etc/fstab
