#!/bin/bash
if [ "$1" = flannel ]; then
    kubectl apply -f kube-flannel.yml
else
    kubectl apply -f calico.yaml
fi
