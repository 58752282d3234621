#!/bin/bash
wget https://raw.githubusercontent.com/projectcalico/calico/v3.27.0/manifests/calico.yaml
curl -LO https://github.com/flannel-io/flannel/releases/download/v0.25.1/kube-flannel.yml
curl -fsSL https://raw.githubusercontent.com/helm/helm/main/scripts/get-helm-3
