#!/bin/sh
kubeadm init --control-plane-endpoint=backend:16443 --pod-network-cidr 10.244.0.0/16  # expect: KCF005
