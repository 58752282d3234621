#!/bin/bash
wget https://raw.githubusercontent.com/coreos/flannel/master/Documentation/kube-flannel.yml # expect: SCR010
curl -LO https://raw.githubusercontent.com/projectcalico/calico/refs/heads/main/manifests/calico.yaml # expect: SCR010
