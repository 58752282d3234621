kubeadm join backend:16443 --token abcdef.0123456789abcdef --discovery-token-ca-cert-hash $HASH  # expect: KCF016
