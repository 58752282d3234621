kubeadm init --config kubeadm.yaml --pod-network-cidr=10.244.0.0/16  # expect: KCF010
kubeadm join --config=join.yaml --control-plane  # expect: KCF010
