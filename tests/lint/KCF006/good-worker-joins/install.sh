kubeadm init --kubernetes-version=v1.29.3
kubeadm join 192.168.1.25:6443 --token $TOKEN --discovery-token-ca-cert-hash $HASH
