kubeadm init --kubernetes-version=v1.29.3 --control-plane-endpoint=backend:6443  # expect: KCF008
