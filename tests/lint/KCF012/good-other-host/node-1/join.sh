kubeadm join backend:16443 --token $TOKEN --discovery-token-ca-cert-hash $HASH
