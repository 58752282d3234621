kubeadm init --config kubeadm.yaml --upload-certs --ignore-preflight-errors=NumCPU --skip-phases=addon/kube-proxy --v=5
kubeadm init phase upload-certs --config kubeadm.yaml --certificate-key $KEY
