#!/bin/bash
kubectl create -f tigera-operator.yaml
kubectl apply -f custom-resources.yaml
kubectl apply -f calico-policy.yaml
