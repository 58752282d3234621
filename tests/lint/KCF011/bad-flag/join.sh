kubeadm join backend:16443 --token $TOKEN --discovery-token-unsafe-skip-ca-verification  # expect: KCF011
