kubeadm init --kubernetes-version=v1.29.3 --control-plane-endpoint=backend:16443 --apiserver-advertise-address 192.168.1.25
