#!/bin/bash
kubectl apply -f kube-flannel.yml
kubectl create -f tigera-operator.yaml # expect: SCR012
kubectl create -f custom-resources.yaml
