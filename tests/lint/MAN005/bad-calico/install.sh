kubeadm init --kubernetes-version=v1.29.3 --control-plane-endpoint=backend:16443 --pod-network-cidr=10.244.0.0/16
