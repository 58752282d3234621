# expect: NGX028/bin/bash
set -e
kubeadm init --kubernetes-version v1.29.3 --control-plane-endpoint=api.example.com:6443 # expect: NGX028
