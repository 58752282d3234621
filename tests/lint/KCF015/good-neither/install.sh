kubeadm init --kubernetes-version=v1.29.3 --control-plane-endpoint=backend:16443
kubeadm join backend:16443 --token $TOKEN --discovery-token-ca-cert-hash $HASH --control-plane
