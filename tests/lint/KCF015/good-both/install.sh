kubeadm init --kubernetes-version=v1.29.3 --control-plane-endpoint=backend:16443 --cri-socket=unix:///var/run/cri-dockerd.sock
kubeadm join backend:16443 --token $TOKEN --discovery-token-ca-cert-hash $HASH --cri-socket unix:///var/run/cri-dockerd.sock
