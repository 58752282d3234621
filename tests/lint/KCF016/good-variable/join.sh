TOKEN=$(ssh master-1 kubeadm token create)
kubeadm join backend:16443 --token "$TOKEN" --discovery-token-ca-cert-hash "$HASH"
