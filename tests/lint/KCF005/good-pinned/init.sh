#!/bin/sh
kubeadm config images list
kubeadm init phase upload-certs --upload-certs
kubeadm init --kubernetes-version v1.29.3 --control-plane-endpoint=backend:16443
kubeadm init --config kubeadm.yaml
